"""Who takes part in a consultation, and what of it is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, Required, get_args

from langchain.agents import AgentState
from langchain_core.messages import AnyMessage, HumanMessage

from ..case import Case, Diagnosis, ImageRef
from ..models.generalist.messages import image_ids, message
from ..tools.toolbox import Toolbox
from .diagnosis_context import DiagnosisContext
from .events import Event, EvidenceArrived, Finding
from .progress import unfold
from .system_prompts import ChatPrompt

if TYPE_CHECKING:
    from ..images import ImageStore
    from ..models.generalist.discovery import Level
    from ..models.generalist.protocol import Generalist

ReviewReason = Literal["low_confidence", "conflict", "out_of_distribution", "always"]
REVIEW_REASONS: frozenset[str] = frozenset(get_args(ReviewReason))

_DESCRIBE = "Describe this image: what kind it is, what it shows, and what stands out."
Write = Callable[[Event], None]


@dataclass(frozen=True)
class ConsultationContext:
    """The graph's runtime context: everything that is not part of a conversation, and so not of its state."""

    collaboration: DiagnosisContext
    generalist: Generalist
    images: ImageStore
    wording: ChatPrompt
    level: Level = "native"
    converses: bool = True
    """Whether the generalist's own words are the answer; else it is written from the record."""
    review: frozenset[str] = frozenset()
    """Where a person must decide before it goes on; see ``ReviewReason``."""

    def toolbox(
        self, state: Mapping[str, Any], write: Write = lambda event: None, *, confined: bool = True
    ) -> Toolbox:
        """The tools, bound to a conversation: its images, task and patient, and no others.

        Args:
            state: of the consultation graph.
            write: is told of evidence as it arrives.
            confined: to the conversation's images; else any of the store may be asked about.
        """
        images: tuple[ImageRef, ...] = tuple(state.get("images") or ())
        group, context = state.get("group"), state.get("context")

        async def protocol(ref: ImageRef, task: str) -> Diagnosis:
            case = Case(id=ref.id, images=(ref,), group=group, context=context)
            return await self.diagnosed(case, task, write, named=state.get("task") == task)

        extended = "describe" in self.wording.functions
        return Toolbox(
            self.collaboration.tasks,
            self.images,
            self.collaboration.specialists,
            self.collaboration.retrieval,
            task=state.get("task"),
            image=images[-1] if images else None,
            group=group,
            own=images if confined else None,
            protocol=protocol,
            describe=self.described if extended else None,
        )

    async def diagnosed(self, case: Case, task: str | None, write: Write, *, named: bool = True) -> Diagnosis:
        """Run the fixed protocol and tell of the evidence on its way.

        Args:
            case: one image of the conversation.
            task: its name; None lets the gate choose it from the image.
            write: is told of evidence as it arrives.
            named: whether a person named the task; else a generalist did.

        Raises:
            GscoError: as ``GSCo.diagnose``.
        """
        collaboration = replace(self.collaboration, task_named=named)
        async for step in unfold({"case": case, "task": task}, collaboration):
            if isinstance(step, Diagnosis):
                return step
            if isinstance(step, EvidenceArrived):
                write(step)
        raise AssertionError("the diagnosis graph ended without a diagnosis")

    async def described(self, ref: ImageRef) -> str:
        """What the generalist sees in an image on its own."""
        return await self.collaboration.generate([message("human", _DESCRIBE, [ref.id])])


def joined(before: tuple[ImageRef, ...], added: tuple[ImageRef, ...]) -> tuple[ImageRef, ...]:
    """The images of a conversation, each once, the latest last."""
    new = {ref.sha256 for ref in added}
    return (*(ref for ref in before or () if ref.sha256 not in new), *added)


class ConsultationState(AgentState):
    """One conversation. Messages name images by id; no image's bytes are in it."""

    turn: Required[str]
    """Id of the user's latest message."""
    images: Required[Annotated[tuple[ImageRef, ...], joined]]
    findings: NotRequired[Annotated[Mapping[str, Finding], or_]]
    """What tools found, by the id of their call, so that a call carried out twice is kept once."""
    over: NotRequired[str]
    """Id of the latest message whose turn is over."""
    task: NotRequired[str | None]
    group: NotRequired[str | None]
    context: NotRequired[str | None]


def findings_of_turn(state: ConsultationState) -> list[Finding]:
    """What was found since the user's latest message, in order."""
    found = (state.get("findings") or {}).values()
    return [finding for finding in found if finding.turn == state["turn"]]


def examined(state: ConsultationState) -> bool:
    """Whether anything was found about an image in the latest turn; a call that failed found nothing."""
    return any(finding.image for finding in findings_of_turn(state))


def unexamined(images: Iterable[ImageRef], findings: Iterable[Finding]) -> tuple[ImageRef, ...]:
    """Those of the images of which nothing was found, nor why nothing could be."""
    known = {finding.image.sha256 for finding in findings if finding.image}
    return tuple(image for image in images if image.sha256 not in known)


def images_of_turn(state: ConsultationState) -> tuple[ImageRef, ...]:
    """The images that came with the user's latest message."""
    shown = set(image_ids(message for message in state["messages"] if message.id == state["turn"]))
    return tuple(ref for ref in state["images"] if ref.id in shown)


def latest_turn(messages: Iterable[AnyMessage]) -> list[AnyMessage]:
    """What was said since the user's latest message, that included."""
    turn: list[AnyMessage] = []
    for one in messages:
        turn = [one] if isinstance(one, HumanMessage) else [*turn, one]
    return turn
