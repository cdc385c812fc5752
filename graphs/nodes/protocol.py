"""The fixed protocol in a conversation: where the generalist cannot call tools, or called none."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langgraph.runtime import Runtime

from ...case import Case, ImageRef, Missing
from ...errors import GscoError
from ...models.generalist.functions import diagnosed
from ..consulting import ConsultationState, Consulting, shown_in_turn
from ..events import Finding, ToolFinished, ToolStarted

TOOL = "protocol"
"""Names the fixed protocol among the tools."""


class ProtocolFirst(AgentMiddleware[ConsultationState, Consulting]):
    """Diagnoses the images of a turn before the generalist is asked, at level ``none``."""

    state_schema = ConsultationState

    async def abefore_agent(
        self, state: ConsultationState, runtime: Runtime[Consulting]
    ) -> dict[str, Any] | None:
        """Run the protocol on the images that came with this turn, if any did."""
        refs = shown_in_turn(state)
        if runtime.context.level != "none" or not refs:
            return None
        finding = await run_protocol(refs, state, runtime)
        return {"findings": {finding.id: finding}}


async def run_protocol(
    refs: Sequence[ImageRef], state: Mapping[str, Any], runtime: Runtime[Consulting]
) -> Finding:
    """Diagnose images as one case, and tell of it as of a tool. What goes wrong stands in the finding."""
    case = Case(id=refs[0].id, images=tuple(refs), group=state.get("group"), context=state.get("context"))
    start, id = time.perf_counter(), finding_id(state["turn"])
    write = runtime.stream_writer
    finding = Finding(id=id, turn=state["turn"], tool=TOOL, image=case.images[-1], task=state.get("task"))
    write(ToolStarted(call=id, name=TOOL, arguments={"image": case.id}))
    try:
        diagnosis = await runtime.context.diagnosed(case, state.get("task"), write)
    except Exception as error:
        # Of an error that nobody foresaw only the kind is told: its words may hold anything.
        reason = str(error) if isinstance(error, GscoError) else f"it failed ({type(error).__name__})"
        finding = finding.model_copy(update={"missing": (Missing(source=TOOL, reason=reason),)})
    else:
        finding = finding.model_copy(update={"diagnosis": diagnosis, "task": diagnosis.task})
    write(
        ToolFinished(
            call=id, name=TOOL, failed=finding.diagnosis is None, text=told(finding),
            diagnosis=finding.diagnosis, seconds=time.perf_counter() - start,
        )
    )  # fmt: skip
    return finding


def finding_id(turn: str) -> str:
    """Id of what the protocol found for a turn."""
    return f"{TOOL}-{turn}"


def told(finding: Finding) -> str:
    """What the generalist is told of it."""
    if finding.diagnosis is None:
        return "; ".join(missing.reason for missing in finding.missing)
    return diagnosed(finding.diagnosis)
