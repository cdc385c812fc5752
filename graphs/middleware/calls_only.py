"""A generalist that does not converse is asked for function calls only, and only where a new image came."""

from __future__ import annotations

from langchain.agents.middleware import AgentMiddleware, hook_config
from langchain_core.messages import ToolMessage
from langgraph.runtime import Runtime

from ..consultation_context import ConsultationContext, ConsultationState, images_of_turn, latest_turn


class CallsOnly(AgentMiddleware[ConsultationState, ConsultationContext]):
    """Keeps a generalist that does not converse out of everything but its calls; see ``RecordAnswer``."""

    state_schema = ConsultationState

    @hook_config(can_jump_to=["end"])
    async def abefore_agent(
        self, state: ConsultationState, runtime: Runtime[ConsultationContext]
    ) -> dict[str, object] | None:
        """Leave it out of turns in which it has nothing to call."""
        context = runtime.context
        # Where a person named the task there is nothing to choose: the fixed protocol diagnoses for it.
        chooses = context.level != "none" and images_of_turn(state) and not state.get("task")
        if context.converses or chooses:
            return None
        return {"jump_to": "end"}

    @hook_config(can_jump_to=["end"])
    async def abefore_model(
        self, state: ConsultationState, runtime: Runtime[ConsultationContext]
    ) -> dict[str, object] | None:
        """End the loop once it has made its calls."""
        called = any(isinstance(one, ToolMessage) for one in latest_turn(state["messages"]))
        return {"jump_to": "end"} if called and not runtime.context.converses else None
