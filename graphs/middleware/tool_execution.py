"""Carrying out a tool call: bound to its conversation, told of as it goes, and kept as a finding."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ToolCallRequest
from langchain_core.messages import ToolMessage
from langgraph.types import Command

from ...case import Diagnosis, Missing, Opinion, SimilarCase, Task
from ...tools.toolbox import Toolbox
from ..consultation_context import ConsultationContext, ConsultationState
from ..events import EvidenceArrived, Finding, ToolFinished, ToolStarted

Handler = Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[object]]]


class ToolExecution(AgentMiddleware[ConsultationState, ConsultationContext]):
    """Carries out a call with the tools of this conversation.

    Each call is a task of its own in the graph, whose result is written to the checkpoint before the next
    step: after a crash only calls without a result are carried out again, and none of them changes anything
    but its own finding. LangChain's tool retry is not used: a tool reads what does not change by itself.
    """

    state_schema = ConsultationState

    async def awrap_tool_call(self, request: ToolCallRequest, handler: Handler) -> Command[object]:
        """Run the call; its records go to the findings, its text to the model."""
        call, write, start = request.tool_call, request.runtime.stream_writer, time.perf_counter()
        id = call["id"] or "call"
        consulting: ConsultationContext = request.runtime.context  # pyright: ignore[reportAssignmentType]
        toolbox = consulting.toolbox(request.state, write)
        tool: Any = next((tool for tool in toolbox.tools() if tool.name == call["name"]), None)
        write(ToolStarted(call=id, name=call["name"], arguments=call["args"]))
        result = await handler(request.override(tool=tool))
        if not isinstance(result, ToolMessage):
            raise TypeError(f"the tool {call['name']} answered with {type(result).__name__}")
        finding = _finding(result, request.override(tool=tool), toolbox)
        _tell(finding, call["name"], write)
        failed = result.status == "error"
        write(
            ToolFinished(
                call=id,
                name=call["name"],
                failed=failed,
                text=result.text,
                diagnosis=finding.diagnosis,
                seconds=time.perf_counter() - start,
            )
        )
        said = result.model_copy(update={"artifact": None, "id": f"result-{id}"})
        return Command(update={"messages": [said], **({} if failed else {"findings": {id: finding}})})


def unexpected(error: Exception, request: ToolCallRequest) -> str:
    """Say to the model that a tool failed for a reason that nobody foresaw; details may hold anything."""
    return (
        f"{request.tool_call['name']} failed ({type(error).__name__}); try another way or say that it failed"
    )


def _finding(result: ToolMessage, request: ToolCallRequest, toolbox: Toolbox) -> Finding:
    call, args = request.tool_call, request.tool_call["args"]
    found: dict[str, Any] = {}
    if result.status != "error":
        found = _records(result.artifact)
        takes = request.tool.args if request.tool else {}
        if "image" in takes:
            found["image"] = toolbox.image(args.get("image", ""))
        if "task" in takes:
            found["task"] = args.get("task") or request.state.get("task")
        if diagnosis := found.get("diagnosis"):
            found["task"] = diagnosis.task
    id = call["id"] or "call"
    return Finding(id=id, turn=request.state["turn"], tool=call["name"], **found)


def _records(artifact: object) -> dict[str, Any]:
    if isinstance(artifact, Diagnosis):
        return {"diagnosis": artifact}
    records: Sequence[object] = artifact if isinstance(artifact, Sequence) else ()
    kinds = {"opinions": Opinion, "similar_cases": SimilarCase, "missing": Missing}
    found = {
        name: tuple(record for record in records if isinstance(record, kind)) for name, kind in kinds.items()
    }
    return {**found, "tasks": tuple(record.name for record in records if isinstance(record, Task))}


def _tell(finding: Finding, name: str, write: Callable[[object], None]) -> None:
    """Tell of the evidence; that of ``diagnose`` was told of on its way."""
    if finding.image is None or not (finding.opinions or finding.similar_cases or finding.missing):
        return
    write(
        EvidenceArrived(
            image=finding.image.id,
            task=finding.task or "",
            opinions=finding.opinions,
            similar_cases=finding.similar_cases,
            missing=finding.missing,
        )
    )
