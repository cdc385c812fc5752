"""Specialists and retrieval as LangChain tools, for a generalist that calls them itself.

A tool takes the id of an image, never a path or an address: a model must not be able to read a file
or fetch anything. What a tool says is text; the records that it stands for ride along as its artifact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from langchain_core.tools import ToolException

from ..case import Diagnosis, ImageRef, Missing, Opinion, SimilarCase, Task, TaskKind
from ..errors import GscoError, SpecialistError
from ..models.generalist.functions import (
    classified,
    declared,
    described,
    diagnosed,
    functions,
    further_functions,
    retrieved,
    sentence,
)
from .stores.protocol import Exclusion

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from ..images import ImageStore
    from ..tasks import TaskBook
    from .retrieval import Retrieval
    from .specialists import Specialists


Protocol = Callable[[ImageRef, str], Awaitable[Diagnosis]]
"""Diagnoses an image for a task by the fixed protocol."""


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
        own: the images of the conversation; others cannot be asked about. None allows all of the store.
        protocol: what ``diagnose`` and ``report`` run; without it there are no such tools.
        describe: what ``describe`` asks; without it there is no such tool.
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
        own: Sequence[ImageRef] | None = None,
        protocol: Protocol | None = None,
        describe: Callable[[ImageRef], Awaitable[str]] | None = None,
    ) -> None:
        self._tasks = tasks
        self._images = images
        self._specialists = specialists
        self._retrieval = retrieval
        self._task = task
        self._image = image
        self._groups = frozenset([group] if group else ())
        self._own = None if own is None else {ref.id: ref for ref in own}
        self._protocol = protocol
        self._describe = describe

    def tools(self) -> list[BaseTool]:
        """Return the tools. They are asynchronous.

        ``classify``, ``retrieve_cases`` and ``list_tasks`` are always there, the others where the toolbox
        was given what carries them out.
        """
        written = self._written()
        known = functions(self._askable(), self._task) | further_functions(written)
        carried_out: list[Callable[..., Awaitable[object]]] = [self.classify, self.retrieve_cases]
        carried_out += [self.diagnose] if self._protocol else []
        carried_out += [self.list_tasks]
        carried_out += [self.describe] if self._describe else []
        carried_out += [self.report] if self._describe and self._protocol and written else []
        return [declared(known[method.__name__], method) for method in carried_out]

    async def classify(
        self, image: str = "", task: str | None = None, specialists: Sequence[str] = ()
    ) -> tuple[str, tuple[Opinion | Missing, ...]]:
        """Ask specialists; one that fails is said to be missing, unless all of them fail."""
        ref, card = self.found(image, task)
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
        ref, card = self.found(image, task)
        exclude = Exclusion(sha256s=frozenset([ref.sha256]), groups=self._groups)
        try:
            cases = await self._retrieval.similar(
                [ref], card.name, k, encoder=encoder or None, exclude=exclude
            )
        except GscoError as error:
            raise ToolException(str(error)) from error
        return retrieved(cases) or f"No known cases of {card.name}.", tuple(cases)

    async def diagnose(self, image: str = "", task: str | None = None) -> tuple[str, Diagnosis]:
        """Run the fixed protocol: gate, specialists, similar cases, decision and review."""
        ref, card = self.found(image, task)
        diagnosis = await self._decided(ref, card.name)
        return diagnosed(diagnosis), diagnosis

    async def list_tasks(self) -> tuple[str, tuple[Task, ...]]:
        """List the task cards."""
        cards = self._askable()
        return described(cards, "\n"), cards

    async def describe(self, image: str = "") -> tuple[str, None]:
        """Let the generalist look at an image on its own."""
        if self._describe is None:
            raise ToolException("no report model is available here")
        try:
            return await self._describe(self.image(image)), None
        except GscoError as error:
            raise ToolException(str(error)) from error

    async def report(self, image: str = "", task: str = "") -> tuple[str, Diagnosis]:
        """Write a report by the fixed protocol of a report task."""
        names = [card.name for card in self._written()]
        name = task or (names[0] if len(names) == 1 else "")
        if name not in names:
            raise ToolException(f"name one of the reports: {', '.join(names)}")
        diagnosis = await self._decided(self.image(image), name)
        return diagnosis.text or "nothing was written", diagnosis

    def image(self, id: str) -> ImageRef:
        """Find an image by its id; an empty one means the latest.

        Raises:
            ToolException: there is none of that id in this conversation.
        """
        if not id and self._image is None:
            raise ToolException("name the image; this conversation has none yet")
        if not id and self._image is not None:
            return self._image
        if self._own is not None:
            if id not in self._own:
                listed = ", ".join(self._own) or "none yet"
                raise ToolException(f"no image {id} in this conversation; it has: {listed}")
            return self._own[id]
        try:
            return self._images.resolve(id)
        except GscoError as error:
            raise ToolException(str(error)) from error

    def found(self, image: str = "", task: str | None = None) -> tuple[ImageRef, Task]:
        """Find the image and the task that a call is about.

        Raises:
            ToolException: one of them is not named or not known.
        """
        if (task := task or self._task) is None:
            raise ToolException("name the task; list_tasks lists them")
        ref = self.image(image)
        try:
            return ref, self._tasks.get(task)
        except GscoError as error:
            raise ToolException(str(error)) from error

    def _askable(self) -> tuple[Task, ...]:
        # A task that nobody can be asked about would only mislead the model.
        askable = tuple(card for card in self._tasks if self._specialists.members(card.name))
        return askable or tuple(self._tasks)

    def _written(self) -> tuple[Task, ...]:
        return tuple(card for card in self._tasks if card.kind is TaskKind.REPORT)

    async def _decided(self, ref: ImageRef, task: str) -> Diagnosis:
        if self._protocol is None:
            raise ToolException("no diagnosis is available here")
        try:
            return await self._protocol(ref, task)
        except GscoError as error:
            raise ToolException(str(error)) from error

    async def _opinion(self, task: str, name: str, ref: ImageRef) -> Opinion | Missing:
        try:
            return await self._specialists.opinion(task, name, ref)
        except SpecialistError as error:
            return Missing(source=f"specialist:{name}", reason=str(error))
        except GscoError as error:
            raise ToolException(str(error)) from error
