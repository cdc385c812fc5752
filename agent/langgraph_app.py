"""Both graphs as LangGraph's tools open them: ``langgraph.json`` names the two functions of this module.

Those tools pass JSON and know nothing of who takes part. So each graph is put into one that takes plain
input, has the installation of the settings take part, and keeps the checkpoints of whoever runs it.

``langgraph dev`` refuses blocking calls on its event loop. Everything that reads files or imports modules
happens in a thread, once, before the first graph is given out.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import threading
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Required, TypedDict
from uuid import uuid4

from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph

from ..case import Case, ImageRef
from ..errors import ImageUnreadable
from ..graphs.consultation_context import ConsultationState
from ..models.generalist.messages import message
from .api import GSCo

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

_LOADING = threading.Lock()
_USED_LATER = ("..graphs.consultation", "..graphs.diagnosis")
"""Modules that are imported when a graph first runs."""


class DiagnosisFields(TypedDict, total=False):
    """What the diagnosis graph is given."""

    image: Required[str]
    """Id of a stored image, or a file in base64, as it is or as a data URI."""
    task: str | None
    question: str | None
    context: str | None
    group: str | None


class DiagnosisOutcome(DiagnosisFields, total=False):
    """What it leaves."""

    diagnosis: dict[str, object]


@cache
def installation() -> GSCo:
    """The installation that the settings name, made once."""
    return GSCo.from_settings()


async def diagnosis(
    config: RunnableConfig,
) -> CompiledStateGraph[DiagnosisOutcome, None, DiagnosisFields, DiagnosisOutcome]:
    """The fixed protocol: ``{"image": …, "task": …}`` becomes ``{"diagnosis": …}``.

    Args:
        config: of the run; the graph is the same for all.
    """
    return await asyncio.to_thread(_diagnosis)


async def consultation(config: RunnableConfig) -> CompiledStateGraph[ConsultationState]:
    """The consultation: takes messages, with images in base64 or by id, and stops for reviews.

    Args:
        config: of the run; the graph is the same for all.
    """
    return await asyncio.to_thread(_consultation)


@cache
def _loaded() -> GSCo:
    """The installation with all models loaded, and all modules that its graphs import when they run."""
    with _LOADING:
        gsco = installation()
        gsco.load()
        for module in _USED_LATER:
            import_module(module, __package__)
        return gsco


@cache
def _diagnosis() -> CompiledStateGraph[DiagnosisOutcome, None, DiagnosisFields, DiagnosisOutcome]:
    from ..graphs.diagnosis import diagnosis_graph

    inner, gsco = diagnosis_graph(), _loaded()

    async def diagnose(state: DiagnosisFields) -> dict[str, object]:
        ref = await asyncio.to_thread(stored, gsco, state["image"])
        more = {name: state.get(name) for name in ("question", "context", "group")}
        collaboration = await asyncio.to_thread(gsco.collaboration)
        case = Case(id=ref.id, images=(ref,), **more)
        done = await inner.ainvoke({"case": case, "task": state.get("task")}, context=collaboration)
        return {"diagnosis": done["diagnosis"].model_dump(mode="json")}

    graph = StateGraph(DiagnosisOutcome, input_schema=DiagnosisFields)
    graph.add_node("diagnose", diagnose)
    graph.add_edge(START, "diagnose")
    graph.add_edge("diagnose", END)
    return graph.compile(name="diagnosis")


@cache
def _consultation() -> CompiledStateGraph[ConsultationState]:
    from ..graphs.consultation import build_consultation_graph

    gsco = _loaded()
    consulting = gsco.consulting()
    inner = build_consultation_graph(consulting.generalist.chat_model(), consulting.toolbox({}).tools())

    async def take_in(state: ConsultationState) -> dict[str, object]:
        said = state["messages"][-1]
        if not isinstance(said, HumanMessage):
            return {}
        refs = [await asyncio.to_thread(stored, gsco, source) for source in image_sources(said)]
        id = said.id or uuid4().hex
        content = message("human", said.text, [ref.id for ref in refs]).content
        return {"messages": [HumanMessage(content, id=id)], "turn": id, "images": tuple(refs)}

    async def consult(state: ConsultationState) -> dict[str, object]:
        return dict(await inner.ainvoke(state, context=consulting))

    graph = StateGraph(ConsultationState)
    graph.add_node("take_in", take_in)
    graph.add_node("consult", consult)
    graph.add_edge(START, "take_in")
    graph.add_edge("take_in", "consult")
    graph.add_edge("consult", END)
    return graph.compile(name="consultation")


def image_sources(said: AnyMessage) -> list[str]:
    """The images of a message, in any of the forms in which LangGraph's chat pages send them."""
    sources = []
    for block in said.content if isinstance(said.content, list) else ():
        if isinstance(block, dict):
            url = block.get("image_url")
            url = url.get("url") if isinstance(url, dict) else url
            source = block.get("file_id") or block.get("base64") or block.get("data") or url
            if source and block.get("type") in ("image", "image_url", "file"):
                sources.append(str(source))
    return sources


def stored(gsco: GSCo, source: str) -> ImageRef:
    """An image by its id, or put into the store from base64; addresses are not fetched.

    Raises:
        ImageError: it is neither, or no image.
    """
    if source.startswith("img-"):
        return gsco.images.resolve(source)
    try:
        content = base64.b64decode(source.partition("base64,")[2] or source, validate=True)
    except binascii.Error:
        raise ImageUnreadable("give an image by its id or in base64, not by a path or an address") from None
    return gsco.images.put(content)
