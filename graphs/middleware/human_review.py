"""Human review: where the policy says so, the graph stops until a person has decided on a diagnosis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AnyMessage, ToolMessage
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import ValidationError

from ...case import Diagnosis, Review, ReviewDecision, Task, TaskKind
from ...errors import TaskError
from ...models.generalist.functions import diagnosed
from ..consultation_context import ConsultationContext, ConsultationState, findings_of_turn
from ..events import Finding, ReviewRequested
from ..policy import review_reasons


class HumanReview(AgentMiddleware[ConsultationState, ConsultationContext]):
    """Stops for a person's decision before the generalist speaks of a diagnosis, and before the turn ends.

    LangChain's human-in-the-loop middleware is not used: it asks before a tool runs, and a tool here only
    looks. What a person must decide on is what came out.
    """

    state_schema = ConsultationState

    async def abefore_model(
        self, state: ConsultationState, runtime: Runtime[ConsultationContext]
    ) -> dict[str, object] | None:
        """Have the turn's diagnoses reviewed."""
        return await _confirmed(state, runtime.context)

    async def aafter_agent(
        self, state: ConsultationState, runtime: Runtime[ConsultationContext]
    ) -> dict[str, object] | None:
        """The same for a diagnosis that was made last."""
        return await _confirmed(state, runtime.context)


async def _confirmed(state: ConsultationState, consulting: ConsultationContext) -> dict[str, object] | None:
    changed: dict[str, Finding] = {}
    for finding in findings_of_turn(state):
        if finding.diagnosis is None or finding.diagnosis.review is not None:
            continue
        reasons = tuple(review_reasons(finding.diagnosis, consulting.review))
        if reasons:
            task = consulting.collaboration.task(finding.diagnosis.task)
            reviewed = _reviewed(finding.id, finding.diagnosis, task, reasons)
            changed[finding.id] = finding.model_copy(update={"diagnosis": reviewed})
    if not changed:
        return None
    if "always" in consulting.review:
        # Where only doubts are reviewed, more of them are wrong anyhow. In a thread: it writes a file.
        for finding in changed.values():
            if finding.diagnosis is not None:
                await asyncio.to_thread(consulting.collaboration.watch_review, finding.diagnosis)
    return {"findings": changed, "messages": list(_retold(state, changed))}


def _reviewed(id: str, diagnosis: Diagnosis, task: Task, reasons: tuple[str, ...]) -> Diagnosis:
    """Ask until an answer fits; whoever resumes the graph by other means may send anything."""
    question = ReviewRequested(
        id=id,
        diagnosis=diagnosis,
        reasons=reasons,
        options=task.options,
        several=task.kind is TaskKind.MULTILABEL,
    )
    while True:
        answer = interrupt(question.model_dump(mode="json"))
        try:
            decision = ReviewDecision.model_validate(answer)
            check(decision, question)
        except (ValidationError, TaskError) as error:
            question = question.model_copy(update={"reasons": (*reasons, f"The answer did not fit: {error}")})
            continue
        return decided(diagnosis, decision, reasons, datetime.now(UTC))


def check(decision: ReviewDecision, question: ReviewRequested) -> None:
    """Check that a decision fits what was asked.

    Raises:
        TaskError: its labels are none of the options, or too many.
    """
    if strange := [label for label in decision.labels if question.options and label not in question.options]:
        raise TaskError(f"{', '.join(strange)}: not among the options {', '.join(question.options)}")
    if len(decision.labels) > 1 and not question.several:
        raise TaskError("this task takes one label")


def decided(
    diagnosis: Diagnosis, decision: ReviewDecision, asked: tuple[str, ...], at: datetime
) -> Diagnosis:
    """A diagnosis with a person's decision on it.

    The probabilities stay what the evidence gave. Another label than the proposed one has no confidence:
    what was measured and promised holds for the program's decisions.
    """
    review = Review(decision=decision, at=at, proposed=diagnosis.labels, asked=asked)
    changes: dict[str, object] = {"review": review, "abstained": decision.action == "reject"}
    if decision.action == "edit":
        changes |= {"labels": decision.labels, "label": ", ".join(decision.labels)}
        changes |= dict.fromkeys(("confidence", "observed", "promise"))
    return diagnosis.model_copy(update=changes)


def _retold(state: ConsultationState, changed: Mapping[str, Finding]) -> Iterator[AnyMessage]:
    """The tool results anew, so that the generalist speaks of what the person decided."""
    for message in state["messages"]:
        finding = changed.get(message.tool_call_id) if isinstance(message, ToolMessage) else None
        if finding is not None and finding.diagnosis is not None:
            yield message.model_copy(update={"content": diagnosed(finding.diagnosis)})
