"""The decision beside the words: from evidence that the generalist gathered itself, and how a turn closes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.runtime import Runtime

from ...case import Case, Diagnosis, Evidence, ImageRef, Missing, Task
from ...errors import GscoError
from ..collaboration import Collaboration
from ..consulting import (
    ConsultationState,
    Consulting,
    findings_of_turn,
    shown_in_turn,
    unexamined,
)
from ..events import Final, Finding
from ..explanation.contradiction import contradictions
from ..explanation.record import image_records
from .ask import answer_where_wanted
from .decide import conclude, with_counter_example
from .gate import check_task
from .protocol import DECISION as TOOL
from .protocol import TOOL as PROTOCOL
from .protocol import run_protocol


class Concluding(AgentMiddleware[ConsultationState, Consulting]):
    """Makes a decision where the generalist did not have the case diagnosed.

    Where it asked specialists, its words alone carry no probabilities and may be a slip. So it is asked once
    more, in the fixed protocol's form, for a distribution over the options, with exactly the evidence that
    it gathered. The fixed protocol runs on each new image that nothing was found about.
    """

    state_schema = ConsultationState

    async def aafter_agent(
        self, state: ConsultationState, runtime: Runtime[Consulting]
    ) -> dict[str, Any] | None:
        """Decide on what was classified in this turn and not diagnosed, or shown in it and not examined."""
        found = [
            await _concluded(ref, task, state, runtime.context.collaboration)
            for ref, task in _undecided(state, runtime.context.collaboration)
        ]
        left = unexamined(shown_in_turn(state), findings_of_turn(state))
        found += await asyncio.gather(*(run_protocol(ref, state, runtime) for ref in left))
        return {"findings": {finding.id: finding for finding in found}} if found else None


class Closing(AgentMiddleware[ConsultationState, Consulting]):
    """Marks the turn as over, so that one that was cut off can be told from it."""

    state_schema = ConsultationState

    async def aafter_agent(self, state: ConsultationState, runtime: Runtime[Consulting]) -> dict[str, Any]:
        """Mark it."""
        return {"over": state["turn"]}


def _undecided(state: Mapping[str, Any], collaboration: Collaboration) -> Iterator[tuple[ImageRef, Task]]:
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
    ref: ImageRef, task: Task, state: Mapping[str, Any], collaboration: Collaboration
) -> Finding:
    id = f"{TOOL}-{state['turn']}-{ref.id}-{task.name}"
    finding = Finding(id=id, turn=state["turn"], tool=TOOL, image=ref, task=task.name)
    case = Case(id=ref.id, images=(ref,), group=state.get("group"), context=state.get("context"))
    try:
        diagnosis = await _decided(case, task, findings_of_turn(state), collaboration)
    except GscoError as error:
        return finding.model_copy(update={"missing": (Missing(source=TOOL, reason=str(error)),)})
    return finding.model_copy(update={"diagnosis": diagnosis})


async def _decided(
    case: Case, task: Task, findings: list[Finding], collaboration: Collaboration
) -> Diagnosis:
    gathered = await check_task(case, task, collaboration)
    of_task = [one for one in findings if one.task == task.name and one.image == case.images[0]]
    opinions = {opinion.specialist: opinion for one in of_task for opinion in one.opinions}
    similar = {known.id: known for one in of_task for known in one.similar_cases}
    missing = (*gathered.get("missing", ()), *(lost for one in of_task for lost in one.missing))
    evidence = Evidence(
        gate=gathered["gate"], opinions=tuple(opinions.values()), similar_cases=tuple(similar.values()),
        missing=tuple(dict.fromkeys(missing)),
    )  # fmt: skip
    answer, evidence = await answer_where_wanted(case, task, evidence, collaboration)
    diagnosis = conclude(case, task, evidence, answer, collaboration)
    return await with_counter_example(case, task, diagnosis, collaboration)


def closing(state: Mapping[str, Any], context: Consulting) -> Final:
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
        for finding in findings if not finding.diagnosis
        for missing in finding.missing if missing.source in (TOOL, PROTOCOL)
    )  # fmt: skip
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
