"""Hosted models refuse parameters, each another one: the client learns it from the first refusal."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from gsco.case import Answer
from gsco.errors import AnswerUnparsed, ConfigurationError, GeneralistError
from gsco.images import ImageStore
from gsco.models.generalist import Choice, load_generalist
from gsco.models.generalist.messages import message
from gsco.models.generalist.openai_compatible import OpenAICompatibleGeneralist
from gsco.models.generalist.parameters import refused
from gsco.settings import Settings

PATIENT = "Mrs Miller"
ASKED = [message("system", "Be brief."), message("human", f"{PATIENT} coughs. normal or pneumonia?")]
OPTIONS = ("normal", "pneumonia")
PLAIN = {"model", "messages", "max_tokens", "temperature", "stream", "top_p", "n", "stop"}


class Refusal(Exception):
    """What the server answers with status 400."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.body = {"error": {"message": message, "type": "invalid_request_error", "param": param}}


def newer(body: dict[str, Any]) -> None:
    if "max_tokens" in body:
        raise Refusal(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
            " 'max_completion_tokens' instead.",
            "max_tokens",
        )
    no_temperature(body)


def no_temperature(body: dict[str, Any]) -> None:
    if body.get("temperature") not in (None, 1):
        raise Refusal(
            "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1)"
            " value is supported.",
            "temperature",
        )


def older(body: dict[str, Any]) -> None:
    if unknown := sorted(set(body) - PLAIN):
        raise Refusal(f"Extra inputs are not permitted: {','.join(unknown)}")


def pydantic_like(body: dict[str, Any]) -> None:
    if "max_completion_tokens" in body:
        raise Refusal(
            "[{'type': 'extra_forbidden', 'loc': ('body', 'max_completion_tokens'), 'msg': 'Extra "
            "inputs are not permitted'}]"
        )


def no_system(body: dict[str, Any]) -> None:
    if any(turn["role"] in ("system", "developer") for turn in body["messages"]):
        raise Refusal(f"System role not supported: {PATIENT}")


def no_developer(body: dict[str, Any]) -> None:
    if any(turn["role"] in ("system", "developer") for turn in body["messages"]):
        raise Refusal("Developer instruction is not enabled for models/m")


def everything(body: dict[str, Any]) -> None:
    for refuses in (no_temperature, pydantic_like, no_system):
        refuses(body)


REFUSALS: dict[str, tuple[Callable[[dict[str, Any]], None], set[str]]] = {
    "newer": (newer, {"temperature"}),
    "no temperature": (no_temperature, {"temperature"}),
    "older": (older, {"max_completion_tokens"}),
    "pydantic": (pydantic_like, {"max_completion_tokens"}),
    "no system": (no_system, {"system"}),
    "no developer": (no_developer, {"system"}),
    "everything": (everything, {"temperature", "max_completion_tokens", "system"}),
}


class Hosted(ThreadingHTTPServer):
    """Refuses as its rule says, and answers in its shape."""

    request_queue_size = 64
    rule: Callable[[dict[str, Any]], None]
    said: dict[str, Any]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Talk)
        self.reset()

    def reset(self) -> None:
        self.rule = lambda body: None
        self.said = {"content": "pneumonia"}
        self.taken: list[dict[str, Any]] = []
        self.refused = 0


class Talk(BaseHTTPRequestHandler):
    server: Hosted  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.reply(200, {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "host"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        try:
            self.server.rule(body)
        except Refusal as refusal:
            self.server.refused += 1
            return self.reply(400, refusal.body)
        self.server.taken.append(body)
        if body.get("stream"):
            return self.stream()
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **self.server.said}}
        return self.reply(
            200, {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        )

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for delta, end in ((self.server.said, None), ({}, "stop")):
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
            chunk |= {"choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def reply(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def running() -> Iterator[Hosted]:
    server = Hosted()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(running: Hosted) -> Hosted:
    running.reset()
    return running


def client(server: Hosted, images: ImageStore, **options: Any) -> OpenAICompatibleGeneralist:
    url = f"http://127.0.0.1:{server.server_port}/v1"
    return OpenAICompatibleGeneralist(url, images, model="m", retries=0, timeout=20.0, **options)


def chosen(outcome: Answer | GeneralistError) -> tuple[str, ...]:
    if isinstance(outcome, GeneralistError):
        raise outcome
    return outcome.labels


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refused_parameter_is_left_out_from_then_on(
    server: Hosted, images: ImageStore, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    server.rule, omitted = REFUSALS[kind]
    generalist = client(server, images)
    with caplog.at_level(logging.WARNING, logger="gsco.generalist"):
        assert chosen(generalist.choose([Choice(ASKED, OPTIONS)])[0]) == ("pneumonia",)
    assert set(generalist.parameters.omitted) == omitted
    first = server.refused
    assert first == len(omitted)
    assert all(f"GSCO_GENERALIST_OMIT={name}" in caplog.text for name in omitted)
    assert PATIENT not in caplog.text
    # Every other way of asking knows it too.
    assert generalist.generate([ASKED]) == ["pneumonia"]
    assert "".join(generalist.stream(ASKED)) == "pneumonia"
    assert generalist.chat_model().invoke(ASKED).text == "pneumonia"
    assert server.refused == first


def test_the_limit_on_an_answer_stays_under_its_other_name(server: Hosted, images: ImageStore) -> None:
    server.rule = older
    client(server, images).generate([ASKED], max_new_tokens=7)
    assert server.taken[-1]["max_tokens"] == 7 and server.taken[-1]["temperature"] == 0
    server.rule = newer
    client(server, images).generate([ASKED], max_new_tokens=7)
    assert server.taken[-1]["max_completion_tokens"] == 7


def test_the_system_message_opens_the_question(server: Hosted, images: ImageStore) -> None:
    server.rule = no_system
    client(server, images).generate([ASKED])
    (turn,) = server.taken[-1]["messages"]
    assert turn["role"] == "user" and turn["content"].startswith(f"Be brief.\n\n{PATIENT} coughs.")


def test_many_at_once_learn_together(server: Hosted, images: ImageStore) -> None:
    server.rule = everything
    generalist = client(server, images, concurrency=8)
    assert generalist.generate([ASKED] * 24) == ["pneumonia"] * 24


def test_the_setting_saves_the_refusal(
    server: Hosted, images: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.rule = everything
    monkeypatch.setenv("GSCO_GENERALIST_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("GSCO_GENERALIST_MODEL", "m")
    monkeypatch.setenv("GSCO_GENERALIST_OMIT", "temperature, max_completion_tokens,system")
    generalist = load_generalist(Settings(), images)
    assert generalist.generate([ASKED]) == ["pneumonia"]
    assert server.refused == 0
    with pytest.raises(ConfigurationError, match=r"cannot leave out messages; it takes temperature"):
        client(server, images, omit={"messages"})


def test_a_parameter_that_is_needed_is_quoted(server: Hosted, images: ImageStore) -> None:
    def no_logprobs(body: dict[str, Any]) -> None:
        if body.get("logprobs"):
            raise Refusal(f"logprobs are not supported with this model. {PATIENT}", "logprobs")

    server.rule = no_logprobs
    (failed,) = client(server, images, mode="letters").choose([Choice(ASKED, OPTIONS)])
    assert "refuses the parameter 'logprobs' (400); set GSCO_GENERALIST_MODE=decode" in str(failed)
    assert PATIENT not in str(failed)


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "pneumonia"}],
        [{"type": "text", "text": "pneu"}, {"type": "text", "text": "monia"}],
        [{"type": "thinking", "thinking": "normal? no"}, {"type": "text", "text": "pneumonia"}],
        "<think>normal?</think>\n\npneumonia",
    ],
)
def test_answers_come_as_text_or_as_parts(server: Hosted, images: ImageStore, content: Any) -> None:
    server.said = {"content": content}
    generalist = client(server, images)
    assert chosen(generalist.choose([Choice(ASKED, OPTIONS)])[0]) == ("pneumonia",)
    assert generalist.generate([ASKED]) == ["pneumonia"]


def test_a_refusal_to_answer_is_named(server: Hosted, images: ImageStore) -> None:
    server.said = {"content": None, "refusal": "I can't help with that."}
    (failed,) = client(server, images).choose([Choice(ASKED, OPTIONS)])
    assert isinstance(failed, AnswerUnparsed) and "declined to answer" in str(failed)


@pytest.mark.parametrize(
    ("text", "named", "found"),
    [
        ("Unrecognized request argument supplied: seed", None, {"seed"}),
        ("`temperature` is deprecated for this model.", None, {"temperature"}),
        ("temperature and top_p cannot be used together", None, {"temperature", "top_p"}),
        ("max_tokens must be at least 1, got 0. (parameter=max_tokens)", "max_tokens", set()),
        ("This model's maximum context length is 4096 tokens", None, set()),
        ("unknown model", None, set()),
        ("The patient has a temperature of 39", None, set()),
    ],
)
def test_refusals_are_read(text: str, named: str | None, found: set[str]) -> None:
    assert refused(text, named, {"temperature", "top_p", "seed", "max_tokens", "system"}) == found
