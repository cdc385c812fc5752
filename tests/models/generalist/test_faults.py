"""The client against a server that misbehaves on purpose: each fault ends in a clear error, or in a retry."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from gsco import GSCo
from gsco.case import Answer
from gsco.errors import ConfigurationError, GeneralistError, PromptTooLong
from gsco.images import ImageStore
from gsco.models.generalist.faults import explained
from gsco.models.generalist.openai_compatible import OpenAICompatibleGeneralist
from gsco.models.generalist.protocol import Choice
from gsco.models.mini.samples import samples
from langchain_core.messages import HumanMessage
from pydantic import SecretStr

KEY = "sk-very-secret"
PATIENT = "Mrs Miller"
ASKED = [HumanMessage(f"{PATIENT} is tired. Yes or no?")]
OPTIONS = ("yes", "no")
BRIEF, LONG = 0.4, 60.0
"""Seconds that a client waits, where the server is silent and where it is not."""
GOOD = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}],
}


class Faulty(ThreadingHTTPServer):
    """Answers chat completions as its script says, step by step; the last step counts for all later ones."""

    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Talk)
        self.script: list[Callable[[Talk], None]] = []
        self.asked: list[float] = []
        self.running = self.most = 0
        self.given_up = threading.Event()
        self.count = threading.Lock()

    def follow(self, *script: Callable[[Talk], None]) -> None:
        """What it does from now on."""
        self.script, self.asked = list(script), []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """That clients leave is what is tested."""


class Talk(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Faulty  # type: ignore[assignment]

    def do_GET(self) -> None:
        self.give({"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "somebody"}]})

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.count:
            self.server.asked.append(time.monotonic())
            self.server.running += 1
            self.server.most = max(self.server.most, self.server.running)
            step = self.server.script[min(len(self.server.asked), len(self.server.script)) - 1]
        try:
            step(self)
        finally:
            with self.server.count:
                self.server.running -= 1

    def give(self, body: object, status: int = 200, **headers: str) -> None:
        """A whole answer."""
        self.begin(len(data := json.dumps(body).encode()), status, **headers)
        self.wfile.write(data)

    def begin(self, length: int | None, status: int = 200, **headers: str) -> None:
        """The head of an answer of so many bytes, or of one that ends where the connection does."""
        self.send_response(status)
        self.send_header("Content-Type", "text/event-stream" if self.body_streams() else "application/json")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header(*(("Connection", "close") if length is None else ("Content-Length", str(length))))
        self.end_headers()
        self.close_connection = length is None

    def body_streams(self) -> bool:
        return bool(getattr(self, "body", {}).get("stream"))

    def reset(self) -> None:
        """Close the connection so that the other side sees it reset."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
        self.connection.close()

    def wait_for_the_end(self) -> None:
        """Be silent until the client leaves."""
        self.connection.settimeout(LONG)
        with suppress(OSError):
            if self.connection.recv(1) == b"":
                self.server.given_up.set()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


def good(talk: Talk) -> None:
    if talk.body_streams():
        return stream("yes", end="stop")(talk)
    return talk.give(GOOD)


def slowly(talk: Talk) -> None:
    time.sleep(0.1)
    talk.give(GOOD)


def says(status: int, message: str = "", **headers: str) -> Callable[[Talk], None]:
    """An error whose text quotes the request and the key, as some servers' do."""

    def step(talk: Talk) -> None:
        quoted = f"{message} {talk.body['messages']} {talk.headers['Authorization']}"
        talk.give({"error": {"message": quoted, "code": status}}, status, **headers)

    return step


def silent(talk: Talk) -> None:
    talk.wait_for_the_end()


def hangs_up(talk: Talk) -> None:
    talk.close()


def resets(talk: Talk) -> None:
    talk.reset()


def resets_midway(talk: Talk) -> None:
    talk.begin(1000)
    talk.wfile.write(b'{"id": "1", "choices": [{"mess')
    talk.reset()


def stops_midway(talk: Talk) -> None:
    talk.begin(1000)
    talk.wfile.write(b'{"id": "1", "choices": [{"mess')
    talk.close()


def stalls_midway(talk: Talk) -> None:
    talk.begin(1000)
    talk.wfile.write(b'{"id": "1", "choices": [{"mess')
    talk.wait_for_the_end()


def babbles(talk: Talk) -> None:
    talk.begin(5)
    talk.wfile.write(b"hello")


def whole(text: bytes) -> Callable[[Talk], None]:
    """A complete HTTP answer that holds this."""

    def step(talk: Talk) -> None:
        talk.begin(len(text))
        talk.wfile.write(text)

    return step


def stream(*texts: str, end: str | None = None, last: Callable[[Talk], object] | None = None) -> Any:
    """Pieces of an answer as events, then whatever comes last."""

    def step(talk: Talk) -> None:
        talk.begin(None)
        for text in texts:
            choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": end}
            chunk = {**GOOD, "object": "chat.completion.chunk", "choices": [choice]}
            talk.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        if last:
            last(talk)
        elif end:
            talk.wfile.write(b"data: [DONE]\n\n")

    return step


def event(text: str) -> Callable[[Talk], object]:
    return lambda talk: talk.wfile.write(f"data: {text}\n\n".encode())


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Faulty]:
    server = Faulty()
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.daemon_threads = True
        server.server_close()


@pytest.fixture(scope="module")
def running() -> Iterator[Faulty]:
    with serving() as server:
        yield server


@pytest.fixture
def server(running: Faulty) -> Faulty:
    running.follow(good)
    running.given_up.clear()
    running.most = 0
    return running


@pytest.fixture
def client(server: Faulty, store: ImageStore) -> Iterator[Callable[..., OpenAICompatibleGeneralist]]:
    """Clients of the server, closed at the end."""
    made: list[OpenAICompatibleGeneralist] = []

    def make(url: str = "", **options: Any) -> OpenAICompatibleGeneralist:
        given = {"model": "m", "retries": 0, "timeout": LONG, "api_key": SecretStr(KEY), **options}
        made.append(OpenAICompatibleGeneralist(url or address(server), store, **given))
        return made[-1]

    yield make
    for one in made:
        one.close()


def address(server: Faulty, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{server.server_port}/v1"


def error_of(outcome: object) -> GeneralistError:
    """The error, once it is sure that neither it nor its traceback tells a secret."""
    assert isinstance(outcome, GeneralistError), outcome
    told = "".join(traceback.format_exception(outcome)) + repr(outcome)
    assert KEY not in told and PATIENT not in told
    return outcome


def streamed(generalist: OpenAICompatibleGeneralist) -> tuple[str, GeneralistError | None]:
    """What a stream gave, and how it failed."""
    text = ""
    try:
        for piece in generalist.stream(ASKED):
            text += piece
    except GeneralistError as error:
        return text, error_of(error)
    return text, None


NO_ANSWERS = {
    "hangs": (silent, "did not answer in time"),
    "stalls in the middle": (stalls_midway, "did not answer in time"),
    "hangs up": (hangs_up, "broke off"),
    "resets": (resets, "broke off"),
    "resets in the middle": (resets_midway, "broke off"),
    "stops in the middle": (stops_midway, "broke off"),
}
REFUSALS = {
    "bad request": (says(400, "no such parameter"), r"refuses the request \(400\)"),
    "no key": (says(401, "Incorrect API key provided"), "GSCO_GENERALIST_API_KEY"),
    "key without rights": (says(403), "GSCO_GENERALIST_API_KEY"),
    "wrong model": (says(404, "The model `m` does not exist."), "has no model 'm'"),
    "vLLM without vision": (says(400, "m is not a multimodal model"), "choose one with vision"),
    "too many images": (says(400, "At most 1 image(s) may be provided in one prompt."), "at most 1 images"),
    "body too large": (says(413), "longer than the model"),
    "unprocessable": (says(422), r"refuses the request \(422\)"),
}
OVERFLOWS = (
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
    "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)",
)
NONSENSE = {
    "half JSON": b'{"id": "1", "choices": [{"mess',
    "a page": b"<html>hello</html>",
    "a list": b"[]",
    "nothing chosen": b'{"choices": []}',
    "no choices": b'{"error": {"message": "Mrs Miller"}}',
    "no text": b"\xff\xfe",
    "nothing": b"",
}


@pytest.mark.parametrize("fault", NO_ANSWERS)
def test_no_answer_is_tried_again_and_then_explained(
    server: Faulty, client: Callable[..., OpenAICompatibleGeneralist], fault: str
) -> None:
    step, said = NO_ANSWERS[fault]
    server.follow(step)
    patience = BRIEF if said.endswith("time") else LONG
    (failed,) = client(retries=1, timeout=patience).generate([ASKED])
    with pytest.raises(GeneralistError, match=said):
        raise error_of(failed)
    assert len(server.asked) == 2
    quick = client(timeout=patience)
    (failed,) = quick.choose([Choice(ASKED, OPTIONS)])
    assert str(error_of(failed)) == str(streamed(quick)[1])
    assert quick.counts == {"failed": 1}


@pytest.mark.parametrize("fault", REFUSALS)
def test_a_refusal_is_explained_and_not_tried_again(
    server: Faulty, client: Callable[..., OpenAICompatibleGeneralist], fault: str
) -> None:
    step, said = REFUSALS[fault]
    server.follow(step)
    generalist = client(retries=3)
    (failed,) = generalist.generate([ASKED])
    with pytest.raises(GeneralistError, match=said):
        raise error_of(failed)
    assert len(server.asked) == 1
    (failed,) = generalist.choose([Choice(ASKED, OPTIONS)])
    assert str(error_of(failed)) == str(streamed(generalist)[1])


@pytest.mark.parametrize("text", OVERFLOWS)
def test_a_prompt_that_is_too_long_is_known_in_several_servers_words(
    server: Faulty, client: Callable[..., OpenAICompatibleGeneralist], text: str
) -> None:
    server.follow(says(400, text))
    (failed,) = client().generate([ASKED])
    assert isinstance(error_of(failed), PromptTooLong)


@pytest.mark.parametrize("fault", NONSENSE)
def test_another_shape_is_named_and_not_tried_again(
    server: Faulty, client: Callable[..., OpenAICompatibleGeneralist], fault: str
) -> None:
    server.follow(whole(NONSENSE[fault]))
    generalist = client(retries=3)
    for failed in (*generalist.generate([ASKED]), *generalist.choose([Choice(ASKED, OPTIONS)])):
        assert "OpenAI shape" in str(error_of(failed))
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_trouble_that_does_not_pass(
    server: Faulty, client: Callable[..., OpenAICompatibleGeneralist], status: int
) -> None:
    server.follow(says(status))
    (failed,) = client(retries=1).generate([ASKED])
    assert f"({status})" in str(error_of(failed))
    assert len(server.asked) == 2


def test_no_vision_is_told_though_the_server_calls_it_its_own_failure(
    server: Faulty, client: Callable[..., OpenAICompatibleGeneralist]
) -> None:
    server.follow(says(500, "image input is not supported - hint: you may need to provide the mmproj"))
    assert "choose one with vision" in str(error_of(client().generate([ASKED])[0]))


@pytest.mark.parametrize(
    "fault", [says(500), says(503), says(429), hangs_up, resets, resets_midway, stops_midway, silent]
)
def test_trouble_that_passes_is_got_over(
    server: Faulty, client: Callable[..., OpenAICompatibleGeneralist], fault: Callable[[Talk], None]
) -> None:
    server.follow(fault, good)
    patience = 2.0 if fault is silent else LONG
    generalist = client(retries=2, timeout=patience)
    (answer,) = generalist.choose([Choice(ASKED, OPTIONS)])
    assert isinstance(answer, Answer) and answer.labels == ("yes",)
    assert len(server.asked) == 2 and generalist.counts == {"exact": 1}


def test_a_server_says_when_to_come_again(
    server: Faulty, client: Callable[..., OpenAICompatibleGeneralist]
) -> None:
    server.follow(says(429, retry_after="2"), good)
    assert client(retries=1).generate([ASKED]) == ["yes"]
    first, second = server.asked
    assert second - first >= 2, "the client's own wait would be half a second"


def test_waits_grow_and_differ(server: Faulty, client: Callable[..., OpenAICompatibleGeneralist]) -> None:
    server.follow(says(500))
    client(retries=2, concurrency=4).generate([ASKED] * 4)
    assert len(server.asked) == 12
    firsts, seconds, thirds = (sorted(server.asked)[i : i + 4] for i in (0, 4, 8))
    assert min(thirds) - max(seconds) > (min(seconds) - max(firsts)) / 2
    assert len({round(b - a, 3) for a, b in zip(firsts, seconds, strict=True)}) > 1


def test_no_more_requests_at_once_than_allowed(
    server: Faulty, client: Callable[..., OpenAICompatibleGeneralist]
) -> None:
    server.follow(slowly)
    assert client(concurrency=3).generate([ASKED] * 12) == ["yes"] * 12
    assert server.most == 3


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (stream("ye", last=resets), "broke off"),
        (stream("ye"), "broke off"),
        (stream("ye", last=silent), "did not answer in time"),
        (stream("ye", last=event('{"choices": [{"del')), "OpenAI shape"),
        (stream("ye", last=event('{"error": {"message": "Mrs Miller died", "code": 500}}')), "failed while"),
    ],
)
def test_half_a_stream_is_not_taken_for_a_whole_one(
    server: Faulty, client: Callable[..., OpenAICompatibleGeneralist], script: Any, said: str
) -> None:
    server.follow(script)
    generalist = client(timeout=BRIEF if said.endswith("time") else LONG, retries=3)
    text, failed = streamed(generalist)
    assert text == "ye" and said in str(failed)
    assert len(server.asked) == 1, "what a caller has seen is not asked for again"

    async def on_a_loop() -> None:
        with explained(address(server), "m"):
            async for _ in generalist.chat_model().astream(ASKED):
                pass

    with pytest.raises(GeneralistError, match=said):
        asyncio.run(on_a_loop())


def test_a_caller_that_gives_up_is_noticed_by_the_server(
    server: Faulty, client: Callable[..., OpenAICompatibleGeneralist]
) -> None:
    server.follow(silent)
    generalist = client(retries=3)

    async def give_up() -> None:
        asking = asyncio.ensure_future(generalist.achoose(Choice(ASKED, OPTIONS)))
        while not server.asked:
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(give_up())
    assert server.given_up.wait(LONG)
    assert len(server.asked) == 1


def test_a_closed_stream_and_a_closed_client_are_noticed_by_the_server(
    server: Faulty, client: Callable[..., OpenAICompatibleGeneralist]
) -> None:
    server.follow(stream("ye", last=silent))
    generalist = client()
    pieces = generalist.stream(ASKED)
    assert next(pieces) == "ye"
    pieces.close()  # type: ignore[attr-defined]
    assert server.given_up.wait(LONG)
    server.given_up.clear()
    server.follow(silent)
    waiting = threading.Thread(target=_failing, args=(generalist,))
    waiting.start()
    while not server.asked:
        time.sleep(0.01)
    generalist.close()
    waiting.join(LONG)
    assert not waiting.is_alive() and server.given_up.wait(LONG)


def _failing(generalist: OpenAICompatibleGeneralist) -> None:
    with suppress(BaseException):
        generalist.generate([ASKED])


def test_one_that_fails_does_not_lose_the_others(
    server: Faulty, client: Callable[..., OpenAICompatibleGeneralist]
) -> None:
    server.follow(says(400), good)
    answers = client(concurrency=1).choose([Choice(ASKED, OPTIONS)] * 3)
    assert isinstance(answers[0], GeneralistError)
    assert [answer.labels for answer in answers[1:] if isinstance(answer, Answer)] == [("yes",)] * 2


def test_no_server_and_no_address(client: Callable[..., OpenAICompatibleGeneralist]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        generalist = client(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", retries=1)
        for failed in (*generalist.generate([ASKED]), *generalist.choose([Choice(ASKED, OPTIONS)])):
            assert "no server answers at http://127.0.0.1:" in str(error_of(failed))
        assert "no server answers" in str(streamed(generalist)[1])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:8000/v1", "whole address"),
        ("http://:8000/v1", "whole address"),
        ("http://host:port/v1", "whole address"),
        ("ftp://host/v1", "whole address"),
        (f"http://user:{KEY}@host/v1", "not contain a user name or password"),
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(
    client: Callable[..., OpenAICompatibleGeneralist], url: str, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        client(url)
    assert KEY not in str(caught.value)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def secured(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def test_a_certificate_must_be_trusted(
    client: Callable[..., OpenAICompatibleGeneralist],
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(secured(authority, "127.0.0.1")) as secure:
        secure.follow(good)
        generalist = client(address(secure, "https"), retries=1)
        assert "no secure connection" in str(error_of(generalist.generate([ASKED])[0]))
        assert "no secure connection" in str(streamed(generalist)[1])
        assert secure.asked == []
        authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert client(address(secure, "https")).generate([ASKED]) == ["yes"]
    with serving(secured(authority, "elsewhere.example")) as other:
        other.follow(good)
        failed = client(address(other, "https")).generate([ASKED])[0]
        assert "no secure connection" in str(error_of(failed))


def test_plain_and_secure_are_not_mixed(
    server: Faulty, client: Callable[..., OpenAICompatibleGeneralist], authority: trustme.CA
) -> None:
    failed = client(address(server, "https")).generate([ASKED])[0]
    assert "no secure connection" in str(error_of(failed))
    with serving(secured(authority, "127.0.0.1")) as secure:
        error_of(client(address(secure)).generate([ASKED])[0])


def test_the_key_and_the_patient_are_in_no_log(
    server: Faulty, client: Callable[..., OpenAICompatibleGeneralist], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.follow(says(500), good)
    generalist = client(retries=1)
    assert generalist.generate([ASKED]) == ["yes"]
    for step in (says(401), resets, whole(b"{"), good):
        server.follow(step)
        generalist.choose([Choice(ASKED, OPTIONS)])
        streamed(generalist)
    assert caplog.records, "nothing was logged at all: this shows nothing"
    assert KEY not in caplog.text and PATIENT not in caplog.text


def test_the_key_is_in_no_result_and_no_state(server: Faulty, tmp_path: Path) -> None:
    home = tmp_path / "home"
    given = {"generalist_url": address(server), "generalist_model": "m", "generalist_api_key": SecretStr(KEY)}
    server.follow(lambda talk: talk.give(_saying("pneumonia")))
    with GSCo.from_settings(home=home, moed="off", rad="off", gate="off", **given) as gsco:
        diagnosis = gsco.diagnose(samples("chest_xray")[0].path, task="chest_xray")
    assert diagnosis.label == "pneumonia"
    assert KEY not in diagnosis.model_dump_json() + repr(diagnosis)
    kept = [path for path in home.rglob("*") if path.is_file()]
    assert kept and not any(KEY.encode() in path.read_bytes() for path in kept)


def _saying(text: str) -> dict[str, Any]:
    return {**GOOD, "choices": [{**GOOD["choices"][0], "message": {"role": "assistant", "content": text}}]}
