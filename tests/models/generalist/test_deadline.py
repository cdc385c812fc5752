"""Servers that hang, drip or never end: given up at the one deadline, which the error names."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from gsco import GSCo
from gsco.errors import GeneralistError
from gsco.models.generalist import Choice
from gsco.models.generalist.deadline import DeadlineExceeded, within
from gsco.models.generalist.openai_compatible import OpenAICompatibleGeneralist
from gsco.models.mini.samples import samples
from langchain_core.messages import HumanMessage

DEADLINE = 1.5
LATEST = DEADLINE + 1.0
ASKED = [HumanMessage("What is this?")]
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
MODELS = json.dumps({"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "x"}]}).encode()


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


def event(words: str) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": words}, "finish_reason": None}
    made = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return chunked(b"data: " + json.dumps(made).encode() + b"\n\n")


def hang(connection: socket.socket, over: threading.Event) -> None:
    over.wait(30)


def drip(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(JSON + b"Content-Length: 1000\r\n\r\n{")
    while not over.wait(0.1):
        connection.sendall(b" ")


def drip_headers(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not over.wait(0.1):
        connection.sendall(b"X-More: 1\r\n")


def endless_events(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(EVENTS)
    while not over.wait(0.02):
        connection.sendall(event("and "))


def comments(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(EVENTS)
    while not over.wait(0.02):
        connection.sendall(chunked(b": alive\n\n"))


def refuse(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(
        b"HTTP/1.1 503 Busy\r\nRetry-After: 20\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )


Behaviour = Callable[[socket.socket, threading.Event], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], str]]:
    """A server that lists its model and does something else with every question."""
    over, sockets, threads = threading.Event(), [], []

    def answer(connection: socket.socket, behave: Behaviour) -> None:
        with connection:
            try:
                while request := connection.recv(2**16):
                    if request.startswith(b"GET /v1/models") and behave is not hang:
                        length = b"Content-Length: %d\r\n\r\n" % len(MODELS)
                        connection.sendall(JSON + length + MODELS)
                    elif b"HTTP/1.1" in request:
                        return behave(connection, over)
            except OSError:
                pass  # the client has left

    def begin(behave: Behaviour) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def accept() -> None:
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                sockets.append(connection)
                threads.append(threading.Thread(target=answer, args=(connection, behave), daemon=True))
                threads[-1].start()

        threads.append(threading.Thread(target=accept, daemon=True))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

    yield begin
    over.set()
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
    for thread in threads:
        thread.join(10)


@pytest.fixture
def connect(store) -> Iterator[Callable[..., OpenAICompatibleGeneralist]]:
    made: list[OpenAICompatibleGeneralist] = []

    def begin(url: str, **options) -> OpenAICompatibleGeneralist:
        given = {"model": "m", "deadline": DEADLINE, "tools": "native", "mode": "decode", **options}
        made.append(OpenAICompatibleGeneralist(url, store, **given))
        return made[-1]

    yield begin
    for each in made:
        each.close()


def ask(generalist: OpenAICompatibleGeneralist, way: str) -> object:
    async def told() -> object:
        model = generalist.chat_model()
        if way == "ainvoke":
            return await model.ainvoke(ASKED)
        return [piece async for piece in model.astream(ASKED)]

    if way == "choose":
        (answer,) = generalist.choose([Choice(ASKED, ("a", "b"), {})])
        if isinstance(answer, GeneralistError):
            raise answer
        return answer
    if way == "generate":
        (text,) = generalist.generate([ASKED])
        if isinstance(text, GeneralistError):
            raise text
        return text
    if way == "stream":
        return list(generalist.stream(ASKED))
    if way == "call_tools":
        return generalist.call_tools(ASKED, [])
    return asyncio.run(told())


@pytest.mark.parametrize("behave", [hang, drip, drip_headers, refuse], ids=lambda one: one.__name__)
@pytest.mark.parametrize("way", ["choose", "generate", "ainvoke"])
def test_an_answer_that_does_not_arrive_is_given_up(serve, connect, behave, way):
    generalist = connect(serve(behave))
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"within 1\.5 s.*GSCO_GENERALIST_TIMEOUT"):
        ask(generalist, way)
    assert time.monotonic() - start < LATEST


@pytest.mark.parametrize("behave", [hang, endless_events, comments], ids=lambda one: one.__name__)
@pytest.mark.parametrize("way", ["astream", "stream"])
def test_a_stream_without_end_is_given_up(serve, connect, behave, way):
    generalist = connect(serve(behave))
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"within 1\.5 s"):
        ask(generalist, way)
    assert time.monotonic() - start < LATEST


def test_a_server_that_hangs_when_it_is_asked_what_it_is_is_given_up(serve, connect):
    start = time.monotonic()
    with pytest.raises(GeneralistError, match="within"):
        _ = connect(serve(hang)).endpoint
    assert time.monotonic() - start < LATEST + 1


def test_an_outer_deadline_holds():
    with within(5) as outer, within(100) as inner:
        assert inner is outer
    with within(3) as later:
        assert later.seconds == 3


def test_a_diagnosis_is_made_without_a_generalist_that_hangs(serve, tmp_path):
    """Policy allows it, so the evidence decides, and the record says why."""
    with GSCo.from_settings(
        home=tmp_path,
        torch_threads=1,
        generalist_url=serve(drip),
        generalist_model="m",
        generalist_timeout=DEADLINE,
    ) as made:
        diagnosis = made.diagnose(samples("busi")[4].path, task="busi")
    assert diagnosis.labels and diagnosis.generalist_answer is None
    (missing,) = [one for one in diagnosis.evidence.missing if one.source == "generalist"]
    assert "within 1.5 s" in missing.reason and "GSCO_GENERALIST_TIMEOUT" in missing.reason
