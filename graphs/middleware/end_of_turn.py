"""The decision beside the words, where the generalist had none made, and how a turn closes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.runtime import Runtime

from ...case import Case, ImageRef, Missing, Task
from ...errors import GscoError
from ..consultation_context import (
    ConsultationContext,
    ConsultationState,
    findings_of_turn,
    images_of_turn,
    unexamined,
)
from ..diagnosis_context import DiagnosisContext
from ..events import Final, Finding
from ..explanation.contradiction import contradictions
from ..explanation.record import image_records
from .fixed_protocol import DECISION as TOOL
from .fixed_protocol import TOOL as PROTOCOL
from .fixed_protocol import run_protocol


class CompleteDiagnoses(AgentMiddleware[ConsultationState, ConsultationContext]):
    """Makes a decision where the generalist did not have the case diagnosed.

    Where it asked specialists, its words alone carry no probabilities and may be a slip: the fixed protocol
    decides. It runs as well on each new image that nothing was found about.
    """

    state_schema = ConsultationState

    async def aafter_agent(
        self, state: ConsultationState, runtime: Runtime[ConsultationContext]
    ) -> dict[str, object] | None:
        """Decide on what was classified in this turn and not diagnosed, or shown in it and not examined."""
        found = [
            await _concluded(ref, task, state, runtime)
            for ref, task in _undecided(state, runtime.context.collaboration)
        ]
        left = unexamined(images_of_turn(state), findings_of_turn(state))
        found += await asyncio.gather(*(run_protocol(ref, state, runtime) for ref in left))
        return {"findings": {finding.id: finding for finding in found}} if found else None


class EndOfTurn(AgentMiddleware[ConsultationState, ConsultationContext]):
    """Marks the turn as over, so that one that was cut off can be told from it."""

    state_schema = ConsultationState

    async def aafter_agent(
        self, state: ConsultationState, runtime: Runtime[ConsultationContext]
    ) -> dict[str, object]:
        """Mark it."""
        return {"over": state["turn"]}


def _undecided(state: ConsultationState, collaboration: DiagnosisContext) -> Iterator[tuple[ImageRef, Task]]:
    """Image and closed task of which specialists were asked in this turn without a diagnosis."""
    turn = findings_of_turn(state)
    diagnosed = {(one.image and one.image.sha256, one.task) for one in turn if one.diagnosis}
    for finding in turn:
        if finding.image is None or finding.task is None or not finding.opinions:
            continue
        task, key = collaboration.task(finding.task), (finding.image.sha256, finding.task)
        if task.kind.closed and key not in diagnosed:
            diagnosed.add(key)
            yield finding.image, task


async def _concluded(
    ref: ImageRef, task: Task, state: ConsultationState, runtime: Runtime[ConsultationContext]
) -> Finding:
    """The decision on an image by the fixed protocol, whichever evidence the generalist asked for.

    So it is the same decision that every other face gives for the image; what specialists and store were
    asked before is not computed again.
    """
    id = f"{TOOL}-{state['turn']}-{ref.id}-{task.name}"
    finding = Finding(id=id, turn=state["turn"], tool=TOOL, image=ref, task=task.name)
    case = Case(id=ref.id, images=(ref,), group=state.get("group"), context=state.get("context"))
    try:
        diagnosis = await runtime.context.diagnosed(
            case, task.name, lambda event: None, named=state.get("task") == task.name
        )
    except GscoError as error:
        return finding.model_copy(update={"missing": (Missing(source=TOOL, reason=str(error)),)})
    return finding.model_copy(update={"diagnosis": diagnosis})


def closing(state: ConsultationState, context: ConsultationContext) -> Final:
    """How the latest turn ended. A pure function."""
    order = {image.sha256: place for place, image in enumerate(state["images"])}
    findings = sorted(
        findings_of_turn(state), key=lambda one: order.get(one.image.sha256, 0) if one.image else 0
    )
    text = answer_of_turn(state["messages"])
    diagnoses = tuple(finding.diagnosis for finding in findings if finding.diagnosis)
    if not context.converses:
        return Final(text=text, diagnosis=diagnoses[-1] if diagnoses else None, diagnoses=diagnoses)
    failures = (
        f"No decision: {missing.reason}"
        for finding in findings
        if not finding.diagnosis
        for missing in finding.missing
        if missing.source in (TOOL, PROTOCOL)
    )
    cards = {task.name: task for task in context.collaboration.tasks}
    notes = (*failures, *contradictions(text, image_records(state, cards), diagnoses))
    return Final(text=text, diagnosis=diagnoses[-1] if diagnoses else None, diagnoses=diagnoses, notes=notes)


def answer_of_turn(messages: list[AnyMessage]) -> str:
    """What the generalist said since the user's latest message, calls aside."""
    said: list[str] = []
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            break
        if isinstance(message, AIMessage) and message.text.strip():
            said.append(message.text.strip())
    return "\n\n".join(reversed(said))
