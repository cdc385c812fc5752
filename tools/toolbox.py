"""Specialists and retrieval as LangChain tools, for a generalist that calls them itself.

A tool takes the id of an image, never a path or an address: a model must not be able to read a file
or fetch anything. What a tool says is text; the records that it stands for ride along as its artifact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ..case import ImageRef, Missing, Opinion, SimilarCase, Task
from ..errors import GscoError, SpecialistError
from .stores.protocol import Exclusion

if TYPE_CHECKING:
    from ..images import ImageStore
    from ..tasks import TaskBook
    from .retrieval import Retrieval
    from .specialists import Specialists

MOST_NEIGHBOURS = 50


def _image_id(value: str) -> str:
    if not value.startswith("img-") or not value[4:].isalnum():
        raise ValueError(
            "this is no image id; give the id of an image of this conversation, such as img-0123456789ab, "
            "never a path or an address"
        )
    return value


ImageId = Annotated[
    str,
    AfterValidator(_image_id),
    Field(
        description="Id of an image of this conversation, as img-0123456789ab. Never a path or an address."
    ),
]
TaskName = Annotated[
    str | None,
    Field(
        description="Name of a task, as list_tasks gives it; leave it out for the task of this conversation."
    ),
]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClassifyArguments(_Arguments):
    """What ``classify`` takes."""

    image: ImageId
    task: TaskName = None
    specialists: list[str] = Field(
        default_factory=list, description="Names of specialists; empty asks all of them."
    )


class RetrieveArguments(_Arguments):
    """What ``retrieve_cases`` takes."""

    image: ImageId
    task: TaskName = None
    k: int = Field(default=10, ge=1, le=MOST_NEIGHBOURS, description="How many cases at most.")
    encoder: str | None = Field(default=None, description="In whose space; leave it out for the task's own.")


class ListTasksArguments(_Arguments):
    """``list_tasks`` takes nothing."""


class Toolbox:
    """Makes the tools over the parts of one installation.

    Args:
        tasks: the task cards.
        images: where image ids are looked up.
        specialists: what ``classify`` asks.
        retrieval: what ``retrieve_cases`` asks.
        task: name of the task of the conversation, for calls that name none.
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
        group: str | None = None,
    ) -> None:
        self._tasks = tasks
        self._images = images
        self._specialists = specialists
        self._retrieval = retrieval
        self._task = task
        self._groups = frozenset([group] if group else ())

    def tools(self) -> list[BaseTool]:
        """Return ``classify``, ``retrieve_cases`` and ``list_tasks``. They are asynchronous."""
        return [
            _tool(
                "classify",
                "Ask the specialist classifiers of a task what an image shows. Gives each one's label, "
                "calibrated probabilities and reliability.",
                ClassifyArguments,
                self.classify,
            ),
            _tool(
                "retrieve_cases",
                "Find the known cases whose images are most similar, with their diagnoses.",
                RetrieveArguments,
                self.retrieve_cases,
            ),
            _tool(
                "list_tasks",
                "List the tasks: name, modality and options.",
                ListTasksArguments,
                self.list_tasks,
            ),
        ]

    async def classify(
        self, image: str, task: str | None = None, specialists: Sequence[str] = ()
    ) -> tuple[str, tuple[Opinion | Missing, ...]]:
        """Ask specialists; one that fails is said to be missing, unless all of them fail."""
        ref, card = self._found(image, task)
        names = tuple(specialists) or self._specialists.members(card.name)
        asked = await asyncio.gather(*(self._opinion(card.name, name, ref) for name in names))
        outcomes = (*asked, *(() if specialists else self._specialists.missing(card.name)))
        if not any(isinstance(outcome, Opinion) for outcome in outcomes):
            raise ToolException("; ".join(map(_sentence, outcomes)) or f"task {card.name} has no specialists")
        return "\n".join(map(_sentence, outcomes)), outcomes

    async def retrieve_cases(
        self, image: str, task: str | None = None, k: int = 10, encoder: str | None = None
    ) -> tuple[str, tuple[SimilarCase, ...]]:
        """Find similar known cases of a task."""
        ref, card = self._found(image, task)
        exclude = Exclusion(sha256s=frozenset([ref.sha256]), groups=self._groups)
        try:
            cases = await self._retrieval.similar([ref], card.name, k, encoder=encoder, exclude=exclude)
        except GscoError as error:
            raise ToolException(str(error)) from error
        return "\n".join(map(_similar, cases)) or f"No known cases of {card.name}.", tuple(cases)

    async def list_tasks(self) -> tuple[str, tuple[Task, ...]]:
        """List the task cards."""
        cards = tuple(self._tasks)
        return "\n".join(f"{card.name}: {card.modality}; options: {_options(card)}" for card in cards), cards

    def _found(self, image: str, task: str | None) -> tuple[ImageRef, Task]:
        if (task := task or self._task) is None:
            raise ToolException("name the task; list_tasks lists them")
        try:
            return self._images.resolve(image), self._tasks.get(task)
        except GscoError as error:
            raise ToolException(str(error)) from error

    async def _opinion(self, task: str, name: str, ref: ImageRef) -> Opinion | Missing:
        try:
            return await self._specialists.opinion(task, name, ref)
        except SpecialistError as error:
            return Missing(source=f"specialist:{name}", reason=str(error))
        except GscoError as error:
            raise ToolException(str(error)) from error


def _tool(name: str, description: str, arguments: type[_Arguments], function: Any) -> BaseTool:
    return StructuredTool(
        name=name,
        description=description,
        args_schema=arguments,
        coroutine=function,
        response_format="content_and_artifact",
        handle_tool_error=True,
        handle_validation_error=_explain,
    )


def _explain(error: Any) -> str:
    """Say to the model which argument is wrong and why."""
    if not isinstance(error, ValidationError):
        return str(error)
    faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    return f"wrong arguments: {'; '.join(faults)}"


def _sentence(outcome: Opinion | Missing) -> str:
    if isinstance(outcome, Missing):
        return f"{outcome.source.removeprefix('specialist:')}: no opinion ({outcome.reason})"
    trust = "" if outcome.reliability is None else f"; reliability {outcome.reliability:.0%}"
    said = ", ".join(outcome.labels) or outcome.text or "none of the options"
    return f"{outcome.specialist}: {said} ({_probabilities(outcome.probabilities.items())}{trust})"


def _probabilities(pairs: Iterable[tuple[str, float]]) -> str:
    ranked = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{label} {value:.0%}" for label, value in ranked) or "no probabilities"


def _similar(case: SimilarCase) -> str:
    labels = ", ".join(case.labels) or "none of the options"
    return f"{labels} (similarity {case.similarity:.2f}, case {case.id})"


def _options(card: Task) -> str:
    return ", ".join(card.options) or card.kind.value.replace("_", " ")
