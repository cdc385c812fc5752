"""``langgraph.json`` names graphs that run on plain input, as LangGraph's tools run them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import gsco
import httpx
import pytest
from gsco.agent import langgraph_app
from gsco.case import ReviewDecision
from gsco.errors import ImageMissing, ImageUnreadable
from gsco.graphs.state import serializer
from gsco.models.mini.samples import samples
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

CONFIG = Path(gsco.__file__).parent / "langgraph.json"
SAMPLE = samples("chest_xray")[3]
ENCODED = base64.b64encode(SAMPLE.path.read_bytes()).decode()


@pytest.fixture
def settled(tmp_path, monkeypatch):
    monkeypatch.setenv("GSCO_HOME", str(tmp_path))
    monkeypatch.setenv("GSCO_REVIEW", "always")
    monkeypatch.setenv("GSCO_TORCH_THREADS", "1")
    made = (
        langgraph_app.installation,
        langgraph_app._loaded,
        langgraph_app._diagnosis,
        langgraph_app._consultation,
    )
    for each in made:
        each.cache_clear()
    yield
    langgraph_app.installation().close()
    for each in made:
        each.cache_clear()


def graph(name: str):
    listed = json.loads(CONFIG.read_text(encoding="utf-8"))
    module, _, function = listed["graphs"][name].partition(":")
    return getattr(import_module(module), function)


def test_the_diagnosis_graph(settled):
    async def run():
        made = await graph("diagnosis")({})
        told = await made.ainvoke({"image": f"data:image/jpeg;base64,{ENCODED}", "task": "chest_xray"})
        again = await made.ainvoke({"image": told["diagnosis"]["case_id"]})
        return told["diagnosis"], again["diagnosis"]

    told, again = asyncio.run(run())
    assert told["label"] == again["label"] == SAMPLE.label
    json.dumps(told)


def test_the_consultation_graph_stops_for_a_review_and_goes_on(settled):
    config = {"configurable": {"thread_id": "a"}}

    async def run():
        made = await graph("consultation")({"configurable": {"thread_id": "a"}})
        made = made.copy({"checkpointer": InMemorySaver(serde=serializer())})
        picture = {"type": "image", "base64": ENCODED, "mime_type": "image/jpeg"}
        content = [{"type": "text", "text": "What is the diagnosis?"}, picture]
        stopped = await made.ainvoke({"messages": [{"role": "user", "content": content}]}, config)
        answer = ReviewDecision(action="approve", reviewer="Dr A").model_dump(mode="json")
        return stopped, await made.ainvoke(Command(resume=answer), config)

    stopped, done = asyncio.run(run())
    assert stopped["__interrupt__"][0].value["diagnosis"]["label"] == SAMPLE.label
    [finding] = done["findings"].values()
    assert finding.diagnosis.review.decision.reviewer == "Dr A"
    assert done["messages"][-1].type == "ai" and ENCODED[:64] not in str(done["messages"])


@pytest.mark.parametrize("source", ["/etc/passwd", "https://a.org/x.png", "file:///etc/passwd", "img-x"])
def test_nothing_is_fetched(settled, source):
    with pytest.raises((ImageUnreadable, ImageMissing)):
        langgraph_app.stored(langgraph_app.installation(), source)


@pytest.fixture(scope="module")
def development_server(tmp_path_factory) -> Iterator[str]:
    """``langgraph dev``, which refuses blocking calls on its event loop."""
    command = os.environ.get("GSCO_TEST_LANGGRAPH")
    if not command:
        pytest.skip("GSCO_TEST_LANGGRAPH names no langgraph command of an environment that has gsco")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GSCO_")}
    process = subprocess.Popen(
        [command, "dev", "--no-browser", "--no-reload", "--port", str(port), "--config", str(CONFIG)],
        env={**kept, "GSCO_HOME": str(home), "GSCO_TORCH_THREADS": "1", "LANGSMITH_TRACING": "false"},
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + 120
    while True:
        try:
            httpx.get(f"{url}/ok", timeout=5).raise_for_status()
            break
        except httpx.HTTPError:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.5)
    yield url
    process.terminate()
    process.wait(30)


@pytest.mark.langgraph
def test_the_development_server_runs_both_graphs(development_server):
    with httpx.Client(base_url=development_server, timeout=240) as client:
        given = {"assistant_id": "diagnosis", "input": {"image": ENCODED, "task": "chest_xray"}}
        told = client.post("/runs/wait", json=given).json()
        assert told["diagnosis"]["label"] == SAMPLE.label, told
        thread = client.post("/threads", json={}).json()["thread_id"]
        picture = {"type": "image", "base64": ENCODED, "mime_type": "image/jpeg"}
        content = [{"type": "text", "text": "What is the diagnosis?"}, picture]
        for said in (content, "How sure are you?"):
            given = {
                "assistant_id": "consultation",
                "input": {"messages": [{"role": "user", "content": said}]},
            }
            state = client.post(f"/threads/{thread}/runs/wait", json=given).json()
            assert state["messages"][-1]["type"] == "ai" and state["messages"][-1]["content"], state
        [finding] = state["findings"].values()
        assert finding["diagnosis"]["label"] == SAMPLE.label and ENCODED[:64] not in str(state["messages"])
