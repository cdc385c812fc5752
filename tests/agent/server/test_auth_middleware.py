import asyncio
import json
from typing import Any

import pytest
from gsco.agent.auth import Users
from gsco.agent.server.auth_middleware import AuthMiddleware
from gsco.agent.server.policy import ServerPolicy

from .conftest import KEYS

LOCAL = (b"host", b"127.0.0.1:8080")
ANNA = (b"authorization", b"Bearer key-of-anna-0123456789")


class Inner:
    """What stands behind the door: notes who came and with what."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self._seconds = seconds

    async def __call__(self, scope, receive, send) -> None:
        message = await receive()
        await asyncio.sleep(self._seconds)
        self.seen.append((scope.get("state", {}).get("user"), message["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


async def knock(door, *headers, path="/v1/diagnose", body: Any = (b"x",)) -> tuple[int, dict, dict]:
    """Send a request in pieces; None among them means that nothing comes any more."""
    pieces, sent = list(body), []

    async def receive():
        if pieces[0] is None:
            await asyncio.sleep(60)
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
    await door(scope, receive, send)
    given = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], json.loads(sent[1]["body"]), given


def knocked(door, *headers, **more):
    return asyncio.run(knock(door, *headers, **more))


def test_a_body_in_pieces_arrives_whole():
    inner = Inner()
    status, _, _ = knocked(AuthMiddleware(inner, ServerPolicy()), LOCAL, body=(b"one ", b"two ", b"three"))
    assert status == 200 and inner.seen == [("local", b"one two three")]


@pytest.mark.parametrize(
    ("headers", "body"),
    [([(b"content-length", b"2000")], [b""]), ([], [b"x" * 600, b"x" * 600, b"never read"])],
)
def test_what_is_too_large_is_refused_whether_it_says_so_or_not(headers, body):
    inner = Inner()
    door = AuthMiddleware(inner, ServerPolicy(max_bytes=1000))
    status, answer, _ = knocked(door, LOCAL, *headers, body=body)
    assert status == 413 and answer["error"]["code"] == "request_too_large" and not inner.seen
    assert "GSCO_API_MAX_BYTES" in answer["error"]["message"]


def test_what_never_arrives_is_given_up():
    inner = Inner()
    door = AuthMiddleware(inner, ServerPolicy(upload_seconds=0.05))
    status, answer, _ = knocked(door, LOCAL, body=(b"half", None))
    assert status == 408 and answer["error"]["code"] == "upload_timeout" and not inner.seen


@pytest.mark.parametrize(
    "header",
    [
        (b"x-none", b""),
        (b"authorization", b"Bearer wrong"),
        (b"authorization", b"Basic YTpi"),
        (b"authorization", b"key-of-anna-0123456789"),
        (b"authorization", b"Bearer \xff\xfe"),
    ],
)
def test_nobody_comes_in_without_a_key_and_nothing_of_theirs_is_read(header):
    inner = Inner()
    door = AuthMiddleware(inner, ServerPolicy(users=Users.parse(KEYS)))
    status, answer, given = knocked(door, header, body=(None,))
    assert status == 401 and answer["error"]["type"] == "authentication_error" and not inner.seen
    assert given["www-authenticate"] == "Bearer" and "Authorization: Bearer" in answer["error"]["message"]


def test_a_key_says_who_comes():
    inner = Inner()
    door = AuthMiddleware(inner, ServerPolicy(users=Users.parse(KEYS)))
    assert knocked(door, ANNA, (b"host", b"hospital.example"))[0] == 200
    assert knocked(door, (b"authorization", b"bearer  key-of-ben-0123456789"))[0] == 200
    assert [user for user, _ in inner.seen] == ["anna", "ben"]


def test_whether_it_lives_anybody_may_ask():
    door = AuthMiddleware(Inner(), ServerPolicy(users=Users.parse(KEYS)))
    assert knocked(door, path="/healthz")[0] == 200
    assert knocked(door, path="/metrics")[0] == 401


@pytest.mark.parametrize(
    "host", [b"evil.example", b"evil.example:8080", b"10.0.0.3", b"", b"127.0.0.1.evil.example"]
)
def test_without_keys_a_page_of_another_name_does_not_reach_it(host):
    status, answer, _ = knocked(AuthMiddleware(Inner(), ServerPolicy()), (b"host", host))
    assert status == 403 and answer["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize("host", [b"localhost", b"localhost:8080", b"127.0.0.1", b"[::1]:8080", b"[::1]"])
def test_without_keys_this_machine_reaches_it(host):
    assert knocked(AuthMiddleware(Inner(), ServerPolicy()), (b"host", host))[0] == 200


def test_a_crowd_is_told_to_come_again():
    inner = Inner(seconds=0.05)
    door = AuthMiddleware(inner, ServerPolicy(at_once=3))

    async def all_at_once():
        return await asyncio.gather(*(knock(door, LOCAL) for _ in range(8)))

    answers = asyncio.run(all_at_once())
    assert sorted(status for status, _, _ in answers) == [200] * 3 + [429] * 5
    refused = next(answer for answer in answers if answer[0] == 429)
    assert refused[1]["error"]["type"] == "rate_limit_error" and refused[2]["retry-after"]
    assert knocked(door, LOCAL)[0] == 200, "who went out makes room"
