"""Slow, greedy and vanishing clients of the running server."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx
import pytest
from gsco.agent.auth import Users
from gsco.agent.server.auth_middleware import AuthMiddleware
from gsco.agent.server.policy import ServerPolicy

from .conftest import KEYS, asked, data_uri, running, served
from .test_auth_middleware import ANNA, LOCAL, Inner, knock

pytestmark = pytest.mark.attack
BEN = (b"authorization", b"Bearer key-of-ben-0123456789")
HEAD = b"POST /v1/diagnose HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 999\r\n"


class Silent(BaseHTTPRequestHandler):
    """A generalist's server that takes a question and never answers."""

    protocol_version = "HTTP/1.1"
    server: "SilentServer"  # type: ignore[assignment]

    def do_GET(self) -> None:
        body = json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.set()
        if self.connection.recv(1) == b"":
            self.server.left.set()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """It keeps its words to itself."""


class SilentServer(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Silent)
        self.asked, self.left = threading.Event(), threading.Event()

    def handle_error(self, request, client_address) -> None:
        self.left.set()


@contextmanager
def silent_generalist() -> Iterator[SilentServer]:
    server = SilentServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("path", ["/v1/diagnose", "/v1/chat/completions"])
def test_a_client_that_leaves_stops_its_work(make_gsco, pictures, path):
    image = pictures.shade("dark", 901)
    if path == "/v1/diagnose":
        body = {"image": data_uri(image), "task": "shade"}
    else:
        body = {"model": "gsco", "messages": [asked("?", image)], "metadata": {"task": "shade"}}
    with silent_generalist() as generalist:
        url = f"http://127.0.0.1:{generalist.server_port}/v1"
        with make_gsco(generalist_url=url, generalist_model="m") as gsco, served(gsco) as address:
            content = json.dumps(body).encode()
            where = urlsplit(address)
            with socket.create_connection((where.hostname, where.port), timeout=60) as client:
                client.sendall(
                    f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                    f"content-length: {len(content)}\r\n\r\n".encode()
                    + content
                )
                assert generalist.asked.wait(120), "the generalist is asked"
                assert not generalist.left.is_set()
            assert generalist.left.wait(20), "the question to the generalist is dropped with its client"


def test_a_decision_goes_on_without_its_client():
    done = asyncio.Event()

    async def app(scope, receive, send) -> None:
        await asyncio.sleep(1.5)
        done.set()

    async def run() -> None:
        messages = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]

        async def receive():
            return messages.pop(0)

        async def send(message) -> None:
            raise AssertionError

        scope = {"type": "http", "method": "POST", "path": "/v1/threads/a/decision", "headers": [LOCAL]}
        await AuthMiddleware(app, ServerPolicy())(scope, receive, send)

    asyncio.run(run())
    assert done.is_set()


def test_slow_bodies_keep_nobody_waiting(gsco):
    with served(gsco, ServerPolicy(at_once=8, pause_seconds=3)) as address:
        where = urlsplit(address)
        slow = [socket.create_connection((where.hostname, where.port), timeout=30) for _ in range(64)]
        for one in slow:
            one.sendall(HEAD + b"\r\n{")
        time.sleep(0.5)
        start = time.monotonic()
        assert httpx.get(f"{address}/v1/models", timeout=5).status_code == 200
        assert time.monotonic() - start < 2
        assert all(b"408" in one.recv(4096) for one in slow), "and they are given up"
        for one in slow:
            one.close()


def test_what_arrives_is_bounded_for_all_together():
    door = AuthMiddleware(Inner(0.3), ServerPolicy(max_bytes=1000, at_once=4))

    async def all_at_once():
        return await asyncio.gather(*(knock(door, LOCAL, body=(b"x" * 900,)) for _ in range(4)))

    statuses = sorted(status for status, _, _ in asyncio.run(all_at_once()))
    assert statuses == [200, 200, 429, 429]
    assert asyncio.run(knock(door, LOCAL, body=(b"x" * 900,)))[0] == 200, "who is answered makes room"


def test_one_user_does_not_take_all():
    door = AuthMiddleware(Inner(0.3), ServerPolicy(users=Users.parse(KEYS), at_once=8, user_at_once=2))

    async def all_at_once():
        return await asyncio.gather(*(knock(door, who) for who in (*[ANNA] * 6, BEN)))

    answers = asyncio.run(all_at_once())
    assert sorted(status for status, _, _ in answers[:6]) == [200] * 2 + [429] * 4
    assert answers[6][0] == 200
    refused = next(answer for answer in answers if answer[0] == 429)
    assert "your requests" in refused[1]["error"]["message"] and refused[2]["retry-after"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ],
)
def test_without_keys_a_web_page_asks_nothing(address, headers):
    body = {"model": "gsco", "messages": [{"role": "user", "content": "?"}]}
    answer = httpx.post(f"{address}/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 403 and answer.json()["error"]["code"] == "origin_not_allowed"


def test_an_application_that_ends_late_is_waited_for():
    """After the whole answer the work is not cut off, though the server says that nobody listens any more."""
    ended = threading.Event()

    async def app(scope, receive, send) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})
        await asyncio.sleep(2)
        ended.set()

    async def lifeless(scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await AuthMiddleware(app, ServerPolicy())(scope, receive, send)

    with running(lambda: lifeless) as address:
        assert httpx.post(f"{address}/x").status_code == 200
        assert ended.wait(10)


THREAD = {"model": "gsco", "messages": [{"role": "user", "content": "What can you do?"}]}
KEY_OF = {"anna": "key-of-anna-0123456789", "ben": "key-of-ben-0123456789"}


def raw(address: str, head: bytes) -> bytes:
    """Send a request as it is and return the first line of the answer."""
    where = urlsplit(address)
    with socket.create_connection((where.hostname, where.port), timeout=60) as client:
        client.sendall(head + b"\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        return client.recv(4096).partition(b"\r\n")[0]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/threads HTTP/1.1",
        b"GET //v1/threads HTTP/1.1",
        b"GET /healthz/../v1/threads HTTP/1.1",
        b"GET /healthz;/v1/threads HTTP/1.1",
        b"GET /healthz%00/v1/threads HTTP/1.1",
        b"GET http://127.0.0.1/v1/threads HTTP/1.1",
        b"GET /docs/..%2fv1/threads HTTP/1.1",
        b"GET /v1/threads HTTP/1.0",
        b"OPTIONS /v1/threads HTTP/1.1",
        b"HEAD /v1/threads HTTP/1.1",
        b"GET /v1/threads HTTP/1.1\r\nauthorization: x\r\nauthorization: Bearer key-of-anna-0123456789",
        b"GET /v1/threads HTTP/1.1\r\nauthorization: Basic x, Bearer key-of-anna-0123456789",
        b"GET /v1/threads HTTP/1.1\r\nauthorization: Bearer key-of-anna-0123456789\xff",
        b"GET /v1/threads HTTP/1.1\r\nauthorization: Bearer key-of-anna-012345678",
        b"GET /v1/threads HTTP/1.1\r\nauthorization: Bearer anna",
        b"GET /v1/threads HTTP/1.1\r\nx-forwarded-user: anna\r\nx-forwarded-for: 127.0.0.1",
        b"GET /healthz HTTP/1.1\r\nx-original-url: /v1/threads\r\nx-rewrite-url: /v1/threads",
        b"GET /v1/threads?key=key-of-anna-0123456789&authorization=Bearer HTTP/1.1",
        b"GET /v1/threads HTTP/1.1\r\ncookie: authorization=key-of-anna-0123456789",
    ],
)
def test_no_trick_with_a_key_or_an_address_opens_the_server(locked, head):
    answer = raw(locked, head)
    if head.startswith(b"GET /healthz HTTP"):
        with httpx.Client(base_url=locked) as client:
            body = client.get("/healthz", headers={"x-original-url": "/v1/threads"}).json()
        assert body["status"] == "alive"
    else:
        assert answer.split()[1] in (b"401", b"404"), answer


def test_a_conversation_is_nobody_elses(locked):
    """Each address that names a conversation, with another user's key: as if there were none."""
    anna, ben = (
        httpx.Client(base_url=locked, headers={"authorization": f"Bearer {key}"}, timeout=60)
        for key in KEY_OF.values()
    )
    with anna, ben:
        given = {**THREAD, "metadata": {"thread": "annas"}}
        assert anna.post("/v1/chat/completions", json=given).status_code == 200
        assert "annas" not in ben.get("/v1/threads").text
        assert ben.get("/v1/threads/annas").status_code == 404
        assert ben.delete("/v1/threads/annas").status_code in (204, 404)
        decision = {"action": "approve"}
        assert ben.post("/v1/threads/annas/decision", json=decision).status_code == 404
        for path in ("/v1/reviews/anna/annas", "/v1/reviews/anna/annas/decision"):
            answer = ben.request("POST" if path.endswith("decision") else "GET", path, json=decision)
            assert answer.status_code in (403, 404) and "What can you do" not in answer.text
        assert ben.get("/v1/reviews").json() == []
        for name in (
            "anna/annas",
            "..%2fanna%2fannas",
            "anna%2fannas",
            "annas%00",
            "%61nnas/",
            "annas%0d%0a",
        ):
            assert ben.get(f"/v1/threads/{name}").status_code in (307, 400, 404), name
        assert anna.get("/v1/threads/annas").status_code == 200, "and it is still there"
        assert anna.delete("/v1/threads/annas").status_code == 204


@pytest.mark.parametrize(
    "image",
    [
        "{0}",
        "{0}/x.png",
        "data:image/png;base64,{0}",
        "//{1}/x.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "\\\\{1}\\share\\x.png",
        "gopher://{1}/",
        "ftp://{1}/x",
        "blob:{0}",
        "data:text/plain,{0}",
        "http://127.1:{2}/",
        "http://[::ffff:127.0.0.1]:{2}/",
        "http://2130706433:{2}/",
        "https://{1}/",
    ],
)
def test_no_address_in_a_request_is_fetched(address, image):
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.settimeout(0.2)
        port = canary.getsockname()[1]
        given = image.format(f"http://127.0.0.1:{port}", f"127.0.0.1:{port}", port)
        answer = httpx.post(f"{address}/v1/diagnose", json={"image": given, "task": "shade"}, timeout=60)
        assert answer.status_code == 400
        shown = {"type": "image_url", "image_url": {"url": given}}
        body = {"model": "gsco", "messages": [{"role": "user", "content": [shown]}]}
        assert httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60).status_code == 400
        with pytest.raises(TimeoutError):
            canary.accept()
