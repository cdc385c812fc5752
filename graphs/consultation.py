"""The consultation: a loop in which the generalist calls tools itself, with people in it.

::

    user ─► ProtocolFirst ─► Confirming ─► Asking ─► Examining ─► Concluding ─► Confirming ─► Grounding ─► end
            (level none)        ▲          │   ▲ no call, │
                                └ Carrying ◄   └──────────┘ a new image, and nothing known of it:
                                  (calls)                   asked once more

The loop, its limits and its error handling are LangChain's ``create_agent`` and middleware; what is ours is
what stands in ``nodes``. Who takes part is given with each run, as ``context=Consulting(…)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain.agents import create_agent
from langchain.agents.middleware import (
    ModelCallLimitMiddleware,
    ToolCallLimitMiddleware,
    ToolErrorMiddleware,
)

from .consulting import ConsultationState, Consulting
from .nodes.asking import Asking
from .nodes.carrying import Carrying, unexpected
from .nodes.concluding import Closing, Concluding
from .nodes.confirming import Confirming
from .nodes.examining import Examining
from .nodes.grounding import Grounding
from .nodes.protocol import ProtocolFirst

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.types import Checkpointer

MODEL_CALLS = 8
"""The generalist is asked at most so often in one turn."""
TOOL_CALLS = 12
"""Tools are called at most so often in one turn; further calls are answered with an error."""


def build_consultation_graph(
    model: BaseChatModel, tools: Sequence[BaseTool], checkpointer: Checkpointer = None
) -> CompiledStateGraph[Any, Consulting, Any, Any]:
    """Compile the graph.

    Args:
        model: the generalist's chat model.
        tools: what it is offered; they are carried out by the toolbox of the run's ``Consulting``.
        checkpointer: keeps the conversation; give it ``state.serializer()``.
    """
    middleware: list[Any] = [
        # After the loop the last of the list comes first: Concluding, Confirming, Grounding, Closing.
        Closing(),
        Grounding(),
        ModelCallLimitMiddleware(run_limit=MODEL_CALLS, exit_behavior="end"),
        ToolCallLimitMiddleware(run_limit=TOOL_CALLS, exit_behavior="continue"),
        ProtocolFirst(),
        Confirming(),
        Asking(),
        Examining(),
        Carrying(),
        ToolErrorMiddleware(unexpected),
        Concluding(),
    ]
    return create_agent(
        model,
        tools,
        middleware=middleware,
        state_schema=ConsultationState,
        context_schema=Consulting,
        checkpointer=checkpointer,
        name="consultation",
    )
