"""A generalist's server that dies, or cuts its answers off, in the middle of the work."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from gsco import GSCo
from gsco.case import Diagnosis
from gsco.errors import GeneralistError


class Failing(ThreadingHTTPServer):
    """Answers ``dark`` so many times, and then closes every connection; calls are cut off in the middle."""

    request_queue_size = 64
    answers: int = 10**6
    lock = threading.Lock()


class Talk(BaseHTTPRequestHandler):
    server: Failing  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.reply({"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "host"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.answers -= 1
            alive = self.server.answers >= 0
        if not alive:
            self.close_connection = True
            return
        held = "response_format" in body or "structured_outputs" in body
        content = '{"tool": "diagnose", "argum' if held else "dark"
        choice = {"index": 0, "finish_reason": "length" if held else "stop"}
        choice["message"] = {"role": "assistant", "content": content}
        self.reply({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})

    def reply(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Failing]:
    running = Failing(("127.0.0.1", 0), Talk)
    thread = threading.Thread(target=running.serve_forever, args=(0.05,))
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def served(server: Failing, tmp_path, cards, specialist_folders, bank) -> Callable[..., GSCo]:
    settings = {
        "home": tmp_path,
        "tasks": cards,
        "specialists": specialist_folders,
        "case_store": str(bank),
        "generalist_url": f"http://127.0.0.1:{server.server_port}/v1",
        "generalist_model": "m",
        "neighbours": 4,
        "decision": "generalist",  # nobody else decides in its place
    }
    return lambda **more: GSCo.from_settings(**settings, **more)


def test_what_is_done_is_kept_when_the_server_dies(server: Failing, served, pictures):
    server.answers = 5
    images = [pictures.shade("dark", 60 + number) for number in range(8)]
    with served() as gsco, pytest.raises(GeneralistError, match="broke off") as caught:
        gsco.diagnose_many(images, task="shade")
    done = [result for result in caught.value.results if result is not None]
    assert len(caught.value.results) == 8 and len(done) == 5
    assert all(isinstance(result, Diagnosis) and result.label == "dark" for result in done)
    assert "5 of 8 cases were diagnosed" in "\n".join(caught.value.__notes__)


def test_a_call_that_is_cut_off_gives_way_to_the_fixed_protocol(server: Failing, served, pictures):
    with served(tool_calls="constrained") as gsco:
        turn = gsco.consult("cut", task="shade").send("What is the diagnosis?", [pictures.shade("dark", 70)])
    assert turn.diagnosis is not None and turn.diagnosis.task == "shade"
    assert turn.diagnosis.label == "dark"
    assert turn.text.count("was cut off") == 1
