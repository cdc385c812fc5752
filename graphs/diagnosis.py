"""The fixed protocol: gate → specialists ∥ retrieval → ask the generalist, if wanted → decide."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send

from .diagnosis_context import DiagnosisContext
from .nodes.ask import ask_generalist
from .nodes.decide import decide
from .nodes.gate import gate
from .nodes.moed import ask_panel, moed
from .nodes.rad import rad, wanted
from .state import BranchInput, DiagnosisInput, DiagnosisState

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    Graph = CompiledStateGraph[DiagnosisState, DiagnosisContext, DiagnosisInput, DiagnosisState]


def build_diagnosis_graph(checkpointer: BaseCheckpointSaver[str] | bool | None = None) -> Graph:
    """Compile the graph. It takes ``case`` and ``task``, and leaves ``diagnosis``.

    Who takes part is given with each call, as ``context=DiagnosisContext(…)``.

    Args:
        checkpointer: keeps the state after each step; give it ``state.serializer()``.
    """
    graph = StateGraph(DiagnosisState, context_schema=DiagnosisContext, input_schema=DiagnosisInput)
    graph.add_node("gate", gate)
    graph.add_node("moed", moed, input_schema=BranchInput)
    graph.add_node("rad", rad, input_schema=BranchInput)
    graph.add_node("ask", ask_generalist, defer=True)
    graph.add_node("decide", decide)
    graph.add_edge(START, "gate")
    graph.add_conditional_edges("gate", gather_evidence, ["moed", "rad", "ask"])
    graph.add_edge("moed", "ask")
    graph.add_edge("rad", "ask")
    graph.add_conditional_edges("ask", after_evidence, ["decide", END])
    graph.add_edge("decide", END)
    return graph.compile(checkpointer=checkpointer, name="diagnosis")


@cache
def diagnosis_graph() -> Graph:
    """Return the compiled graph; it is made once, and keeps nothing even where a graph that does runs it."""
    return build_diagnosis_graph(checkpointer=False)


# Both choices of a branch are coroutines: LangGraph gives each plain function a thread.


async def gather_evidence(state: DiagnosisState, runtime: Runtime[DiagnosisContext]) -> Sequence[Send] | str:
    """Fan out to the specialists and to retrieval, or go on to the decision where both are off.

    Raises:
        EvidenceMissing: the policy requires specialists that are not there.
    """
    collaboration, case = runtime.context, state["case"]
    task = collaboration.task(state["gate"].task)
    branches = ask_panel(case, task, collaboration)
    if wanted(collaboration):
        branches.append(Send("rad", BranchInput(case=case, task=task.name, specialist="")))
    return branches or "ask"


async def after_evidence(state: DiagnosisState, runtime: Runtime[DiagnosisContext]) -> str:
    """Go on to the decision, or end where only the evidence is wanted."""
    return END if runtime.context.evidence_only else "decide"
