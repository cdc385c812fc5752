"""The consultation: a loop in which the generalist calls tools itself, with people in it.

::

    user ─► EarlierImages ─► HumanReview ─► ModelCall ─► RequireDiagnosis ─► CompleteDiagnoses ─► HumanReview
            ProtocolFirst       ▲            │   ▲ no call, │              ─► RecordAnswer ─► EndOfTurn
            (level none)        └ ToolExecution  └──────────┘ a new image, and nothing known of it:
                                  (calls)                     asked once more

A generalist that converses answers in its own words. One that does not is asked for calls only, and what is
said is written from the record (``RecordAnswer``).

The loop, its limits and its error handling are LangChain's ``create_agent`` and middleware; what is ours is
what stands in ``graphs.middleware``. Who takes part is given with each run, as
``context=ConsultationContext(…)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ModelCallLimitMiddleware,
    ToolCallLimitMiddleware,
    ToolErrorMiddleware,
)

from .consultation_context import ConsultationContext, ConsultationState
from .middleware.calls_only import CallsOnly
from .middleware.earlier_images import EarlierImages
from .middleware.end_of_turn import CompleteDiagnoses, EndOfTurn
from .middleware.fixed_protocol import ProtocolFirst
from .middleware.human_review import HumanReview
from .middleware.model_call import ModelCall
from .middleware.record_answer import RecordAnswer
from .middleware.require_diagnosis import RequireDiagnosis
from .middleware.tool_execution import ToolExecution, unexpected

if TYPE_CHECKING:
    from langchain.agents.middleware.types import OutputAgentState
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    ConsultationGraph = CompiledStateGraph[
        AgentState[object], ConsultationContext, Any, OutputAgentState[object]
    ]

MODEL_CALLS = 8
"""The generalist is asked at most so often in one turn."""
TOOL_CALLS = 12
"""Tools are called at most so often in one turn; further calls are answered with an error."""


def build_consultation_graph(
    model: BaseChatModel,
    tools: Sequence[BaseTool],
    checkpointer: BaseCheckpointSaver[str] | bool | None = None,
) -> ConsultationGraph:
    """Compile the graph.

    Args:
        model: the generalist's chat model.
        tools: what it is offered; they are carried out by the toolbox of the run's ``ConsultationContext``.
        checkpointer: keeps the conversation; give it ``state.serializer()``.
    """
    middleware: list[AgentMiddleware[Any, Any]] = [
        # After the loop the last of the list comes first: CompleteDiagnoses … EndOfTurn.
        EndOfTurn(),
        RecordAnswer(),
        ModelCallLimitMiddleware(run_limit=MODEL_CALLS, exit_behavior="end"),
        ToolCallLimitMiddleware(run_limit=TOOL_CALLS, exit_behavior="continue"),
        ProtocolFirst(),
        EarlierImages(),
        CallsOnly(),
        HumanReview(),
        ModelCall(),
        RequireDiagnosis(),
        ToolExecution(),
        ToolErrorMiddleware(unexpected),
        CompleteDiagnoses(),
    ]
    return create_agent(
        model,
        tools,
        middleware=middleware,
        state_schema=ConsultationState,
        context_schema=ConsultationContext,
        checkpointer=checkpointer,
        name="consultation",
    )
