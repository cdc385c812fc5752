"""Both graphs of gsco as sub-graphs of a LangGraph of one's own.

Run it with ``python examples/subgraphs.py``. A sub-graph shares the keys of its parent's state that have its
own names (``case``, ``task``, ``diagnosis``; ``messages``, ``images``, ``findings``), and gets its context,
the models and stores that take part, from the parent's run. Such graphs run in the event loop of their
caller: do not call ``gsco.diagnose`` of the same object at the same time.
"""

from __future__ import annotations

import asyncio
from typing import TypedDict

from gsco import Case, Diagnosis, GSCo
from gsco.graphs.consultation import build_consultation_graph
from gsco.graphs.consultation_context import ConsultationContext, ConsultationState
from gsco.graphs.diagnosis import build_diagnosis_graph
from gsco.graphs.diagnosis_context import DiagnosisContext
from gsco.models.generalist.messages import message
from gsco.models.mini.samples import samples
from langgraph.graph import END, START, StateGraph


class Letter(TypedDict, total=False):
    """The state of the parent graph: three keys of the diagnosis graph and one of its own."""

    case: Case
    task: str | None
    diagnosis: Diagnosis
    letter: str


def write(state: Letter) -> Letter:
    """Write a letter from the diagnosis; a node of one's own."""
    diagnosis = state.get("diagnosis")
    assert diagnosis is not None
    sure = "a person must decide" if diagnosis.abstained else f"confidence {diagnosis.confidence:.2f}"
    return {"letter": f"Dear colleague, the image suggests {diagnosis.label} ({sure})."}


async def letter(gsco: GSCo) -> str:
    """Run the diagnosis graph, then a node of one's own."""
    graph = StateGraph(Letter, context_schema=DiagnosisContext)
    graph.add_node("diagnose", build_diagnosis_graph())
    graph.add_node("write", write)
    graph.add_edge(START, "diagnose")
    graph.add_edge("diagnose", "write")
    graph.add_edge("write", END)
    ref = gsco.images.put(samples("chest_xray")[3].path)
    case = Case(id="case-1", images=(ref,))
    state = await graph.compile().ainvoke({"case": case, "task": "chest_xray"}, context=gsco.collaboration())
    return state["letter"]


async def conversation(gsco: GSCo) -> str:
    """Run the consultation graph behind a node that words the user's question."""
    consulting = gsco.consulting()
    inner = build_consultation_graph(consulting.generalist.chat_model(), consulting.toolbox({}).tools())
    ref = gsco.images.put(samples("busi")[4].path)

    def ask(state: ConsultationState) -> dict[str, object]:
        question = message("human", "What is the diagnosis?", [ref.id]).model_copy(update={"id": "turn-1"})
        return {"messages": [question], "turn": "turn-1", "images": (ref,)}

    graph = StateGraph(ConsultationState, context_schema=ConsultationContext)
    graph.add_node("ask", ask)
    graph.add_node("consult", inner)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "consult")
    graph.add_edge("consult", END)
    start = ConsultationState(messages=[], turn="", images=())
    state = await graph.compile().ainvoke(start, context=consulting)
    return state["messages"][-1].text


async def both() -> None:
    """Run both parents with one installation."""
    gsco = GSCo.from_settings()
    gsco.load()
    print(await letter(gsco))
    print(await conversation(gsco))


if __name__ == "__main__":
    asyncio.run(both())
