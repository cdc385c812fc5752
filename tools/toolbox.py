"""Specialists and retrieval as LangChain tools, for a generalist that calls them itself.

A tool takes the id of an image, never a path or an address: a model must not be able to read a file
or fetch anything. What a tool says is text; the records that it stands for ride along as its artifact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from langchain_core.tools import ToolException

from ..case import ImageRef, Missing, Opinion, SimilarCase, Task
from ..errors import GscoError, SpecialistError
from ..models.generalist.functions import classified, declared, described, functions, retrieved, sentence
from .stores.protocol import Exclusion

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from ..images import ImageStore
    from ..tasks import TaskBook
    from .retrieval import Retrieval
    from .specialists import Specialists


class Toolbox:
    """Makes the tools over the parts of one installation.

    Args:
        tasks: the task cards.
        images: where image ids are looked up.
        specialists: what ``classify`` asks.
        retrieval: what ``retrieve_cases`` asks.
        task: name of the task of the conversation, for calls that name none.
        image: the conversation's latest image, for calls that name none.
        group: patient or study of the conversation, whose known cases are never retrieved.
    """

    def __init__(
        self,
        tasks: TaskBook,
        images: ImageStore,
        specialists: Specialists,
        retrieval: Retrieval,
        *,
        task: str | None = None,
        image: ImageRef | None = None,
        group: str | None = None,
    ) -> None:
        self._tasks = tasks
        self._images = images
        self._specialists = specialists
        self._retrieval = retrieval
        self._task = task
        self._image = image
        self._groups = frozenset([group] if group else ())

    def tools(self) -> list[BaseTool]:
        """Return ``classify``, ``retrieve_cases`` and ``list_tasks``. They are asynchronous."""
        # A task that nobody can be asked about would only mislead the model.
        askable = tuple(card for card in self._tasks if self._specialists.members(card.name))
        known = functions(askable or tuple(self._tasks), self._task)
        carried_out = (self.classify, self.retrieve_cases, self.list_tasks)
        return [declared(known[method.__name__], method) for method in carried_out]

    async def classify(
        self, image: str = "", task: str | None = None, specialists: Sequence[str] = ()
    ) -> tuple[str, tuple[Opinion | Missing, ...]]:
        """Ask specialists; one that fails is said to be missing, unless all of them fail."""
        ref, card = self._found(image, task)
        names = tuple(specialists) or self._specialists.members(card.name)
        asked = await asyncio.gather(*(self._opinion(card.name, name, ref) for name in names))
        outcomes = (*asked, *(() if specialists else self._specialists.missing(card.name)))
        if not any(isinstance(outcome, Opinion) for outcome in outcomes):
            raise ToolException("; ".join(map(sentence, outcomes)) or f"task {card.name} has no specialists")
        return classified(outcomes), outcomes

    async def retrieve_cases(
        self, image: str = "", task: str | None = None, k: int = 10, encoder: str = ""
    ) -> tuple[str, tuple[SimilarCase, ...]]:
        """Find similar known cases of a task."""
        ref, card = self._found(image, task)
        exclude = Exclusion(sha256s=frozenset([ref.sha256]), groups=self._groups)
        try:
            cases = await self._retrieval.similar(
                [ref], card.name, k, encoder=encoder or None, exclude=exclude
            )
        except GscoError as error:
            raise ToolException(str(error)) from error
        return retrieved(cases) or f"No known cases of {card.name}.", tuple(cases)

    async def list_tasks(self) -> tuple[str, tuple[Task, ...]]:
        """List the task cards."""
        cards = tuple(self._tasks)
        return described(cards, "\n"), cards

    def _found(self, image: str, task: str | None) -> tuple[ImageRef, Task]:
        if (task := task or self._task) is None:
            raise ToolException("name the task; list_tasks lists them")
        if not image and self._image is None:
            raise ToolException("name the image; this conversation has none yet")
        try:
            ref = self._images.resolve(image) if image or self._image is None else self._image
            return ref, self._tasks.get(task)
        except GscoError as error:
            raise ToolException(str(error)) from error

    async def _opinion(self, task: str, name: str, ref: ImageRef) -> Opinion | Missing:
        try:
            return await self._specialists.opinion(task, name, ref)
        except SpecialistError as error:
            return Missing(source=f"specialist:{name}", reason=str(error))
        except GscoError as error:
            raise ToolException(str(error)) from error
