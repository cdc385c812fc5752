"""The consultation: a loop in which the generalist calls tools itself, with people in it.

::

    user ─► EarlierImages ─► Confirming ─► Asking ─► Examining ─► Concluding ─► Confirming ─► RecordAnswer
            ProtocolFirst       ▲          │   ▲ no call, │
            (level none)        └ Carrying ◄   └──────────┘ a new image, and nothing known of it:
                                  (calls)                   asked once more

A generalist that converses answers in its own words. One that does not is asked for calls only, and what is
said is written from the record (``RecordAnswer``).

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
from .middleware.calls_only import CallsOnly
from .middleware.earlier_images import EarlierImages
from .middleware.record_answer import RecordAnswer
from .nodes.asking import Asking
from .nodes.carrying import Carrying, unexpected
from .nodes.concluding import Closing, Concluding
from .nodes.confirming import Confirming
from .nodes.examining import Examining
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
        # After the loop the last of the list comes first: Concluding, Confirming, RecordAnswer, Closing.
        Closing(),
        RecordAnswer(),
        ModelCallLimitMiddleware(run_limit=MODEL_CALLS, exit_behavior="end"),
        ToolCallLimitMiddleware(run_limit=TOOL_CALLS, exit_behavior="continue"),
        ProtocolFirst(),
        EarlierImages(),
        CallsOnly(),
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
