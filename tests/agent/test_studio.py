"""``langgraph.json`` names graphs that run on plain input, as LangGraph's tools run them."""

from __future__ import annotations

import asyncio
import base64
import json
from importlib import import_module
from pathlib import Path

import gsco
import pytest
from gsco.agent import studio
from gsco.case import Decision
from gsco.errors import ImageMissing, ImageUnreadable
from gsco.graphs.state import serializer
from gsco.models.mini.samples import samples
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

SAMPLE = samples("chest_xray")[3]
ENCODED = base64.b64encode(SAMPLE.path.read_bytes()).decode()


@pytest.fixture
def settled(tmp_path, monkeypatch):
    monkeypatch.setenv("GSCO_HOME", str(tmp_path))
    monkeypatch.setenv("GSCO_REVIEW", "always")
    monkeypatch.setenv("GSCO_THREADS", "1")
    studio.installation.cache_clear()
    yield
    studio.installation().close()
    studio.installation.cache_clear()


def graph(name: str):
    listed = json.loads((Path(gsco.__file__).parent / "langgraph.json").read_text(encoding="utf-8"))
    module, _, function = listed["graphs"][name].partition(":")
    return getattr(import_module(module), function)


def test_the_diagnosis_graph(settled):
    async def run():
        made = await graph("diagnosis")()
        told = await made.ainvoke({"image": f"data:image/jpeg;base64,{ENCODED}", "task": "chest_xray"})
        again = await made.ainvoke({"image": told["diagnosis"]["case_id"]})
        return told["diagnosis"], again["diagnosis"]

    told, again = asyncio.run(run())
    assert told["label"] == again["label"] == SAMPLE.label
    json.dumps(told)


def test_the_consultation_graph_stops_for_a_review_and_goes_on(settled):
    config = {"configurable": {"thread_id": "a"}}

    async def run():
        made = await graph("consultation")(InMemorySaver(serde=serializer()))
        picture = {"type": "image", "base64": ENCODED, "mime_type": "image/jpeg"}
        content = [{"type": "text", "text": "What is the diagnosis?"}, picture]
        stopped = await made.ainvoke({"messages": [{"role": "user", "content": content}]}, config)
        answer = Decision(action="approve", reviewer="Dr A").model_dump(mode="json")
        return stopped, await made.ainvoke(Command(resume=answer), config)

    stopped, done = asyncio.run(run())
    assert stopped["__interrupt__"][0].value["diagnosis"]["label"] == SAMPLE.label
    [finding] = done["findings"].values()
    assert finding.diagnosis.review.decision.reviewer == "Dr A"
    assert done["messages"][-1].type == "ai" and ENCODED[:64] not in str(done["messages"])


@pytest.mark.parametrize("source", ["/etc/passwd", "https://a.org/x.png", "file:///etc/passwd", "img-x"])
def test_nothing_is_fetched(settled, source):
    with pytest.raises((ImageUnreadable, ImageMissing)):
        studio.stored(studio.installation(), source)
