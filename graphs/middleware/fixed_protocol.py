"""The fixed protocol in a conversation: where the generalist cannot call tools, or called none."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langgraph.runtime import Runtime

from ...case import Case, ImageRef, Missing
from ...errors import GscoError, SpecialistError, StoreError, TaskMismatch
from ...models.generalist.functions import diagnosed
from ..consultation_context import ConsultationContext, ConsultationState, images_of_turn
from ..diagnosis_context import DiagnosisContext
from ..events import Finding, Likeness, ToolFinished, ToolStarted
from ..nodes.gate import NEIGHBOURS

TOOL = "protocol"
"""Names the fixed protocol among the tools."""
DECISION = "decide"
"""Names the decision from evidence that the generalist gathered by single calls."""


class ProtocolFirst(AgentMiddleware[ConsultationState, ConsultationContext]):
    """Diagnoses the images of a turn before the generalist is asked, at level ``none``."""

    state_schema = ConsultationState

    async def abefore_agent(
        self, state: ConsultationState, runtime: Runtime[ConsultationContext]
    ) -> dict[str, object] | None:
        """Run the protocol on the images that came with this turn, if any did."""
        refs = images_of_turn(state)
        if runtime.context.level != "none" or not refs:
            return None
        findings = await asyncio.gather(*(run_protocol(ref, state, runtime) for ref in refs))
        return {"findings": {finding.id: finding for finding in findings}}


def finding_id(turn: str, image: str) -> str:
    """Id of what the protocol found about an image in a turn."""
    return f"{TOOL}-{turn}-{image}"


async def run_protocol(
    ref: ImageRef, state: ConsultationState, runtime: Runtime[ConsultationContext]
) -> Finding:
    """Diagnose an image, and tell of it as of a tool. What goes wrong stands in the finding."""
    case = Case(id=ref.id, images=(ref,), group=state.get("group"), context=state.get("context"))
    start, id = time.perf_counter(), finding_id(state["turn"], ref.id)
    write = runtime.stream_writer
    finding = Finding(id=id, turn=state["turn"], tool=TOOL, image=ref, task=state.get("task"))
    write(ToolStarted(call=id, name=TOOL, arguments={"image": case.id}))
    try:
        diagnosis = await runtime.context.diagnosed(case, state.get("task"), write)
    except Exception as error:
        # Of an error that nobody foresaw only the kind is told: its words may hold anything.
        reason = str(error) if isinstance(error, GscoError) else f"it failed ({type(error).__name__})"
        found: dict[str, Any] = {"missing": (Missing(source=TOOL, reason=reason),)}
        if isinstance(error, TaskMismatch):
            found["likeness"] = await likeness(case, runtime.context.collaboration)
        finding = finding.model_copy(update=found)
    else:
        finding = finding.model_copy(update={"diagnosis": diagnosis, "task": diagnosis.task})
    write(
        ToolFinished(
            call=id,
            name=TOOL,
            failed=finding.diagnosis is None,
            text=finding_text(finding),
            diagnosis=finding.diagnosis,
            seconds=time.perf_counter() - start,
        )
    )
    return finding


async def likeness(case: Case, collaboration: DiagnosisContext) -> Likeness | None:
    """The kind of known image that a case is nearest to; None where that cannot be said."""
    retrieval, names = collaboration.retrieval, tuple(sorted(collaboration.tasks.names()))
    try:
        around = await retrieval.surroundings(
            case.images, NEIGHBOURS, among=names, exclude=collaboration.exclusion(case)
        )
        best = max(around.shares, key=lambda name: (around.shares[name], around.nearest[name]), default=None)
        if best is None:
            return None
        usual = await retrieval.floor(best)
    except (StoreError, SpecialistError):
        return None
    return Likeness(
        task=best,
        modality=collaboration.task(best).modality,
        share=around.shares[best],
        similarity=around.nearest[best],
        usual=usual,
    )


def finding_text(finding: Finding) -> str:
    """What the generalist is told of it."""
    if finding.diagnosis is None:
        return "; ".join(missing.reason for missing in finding.missing)
    return diagnosed(finding.diagnosis)
