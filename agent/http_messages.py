"""Requests and answers of ASGI applications: headers, bodies within limits, short answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send


class RequestRefused(Exception):
    """A request is not let in, or cannot be read.

    Args:
        status: of the HTTP response.
        message: why, and what to do.
        code: a word that programs go by.
    """

    def __init__(self, status: int, message: str, code: str = "invalid_request") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def header(scope: Scope, name: bytes) -> str:
    """The first header of a name; empty if there is none."""
    return next((value.decode("latin-1") for found, value in scope["headers"] if found == name), "")


async def read_body(receive: Receive, most: int, seconds: float | None = None) -> bytes:
    """Read a whole body of at most so many bytes, within so many seconds.

    Raises:
        RequestRefused: it is larger, late or cut off.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RequestRefused(400, "the request was cut off")
                body += message.get("body", b"")
                if len(body) > most:
                    raise RequestRefused(413, f"the request is larger than {most} bytes; send less")
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise RequestRefused(408, "the request did not arrive in time; send it again") from None


def replayed(body: bytes, then: Callable[[], Awaitable[Message]]) -> Receive:
    """A ``receive`` that gives a body that was read already, and then what ``then`` gives."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await then()

    return again


async def answer(
    send: Send, status: int, body: str, kind: str = "text/plain", headers: Mapping[str, str] | None = None
) -> None:
    """Send a whole answer of one media type, with further headers."""
    content = body.encode()
    charset = "; charset=utf-8" if kind.startswith("text/") else ""
    given = {"content-type": f"{kind}{charset}", "content-length": str(len(content)), **(headers or {})}
    pairs = [(name.encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})


async def answer_refusal(send: Send, refused: RequestRefused) -> None:
    """Say in one sentence why a request of a browser is refused, and close the connection."""
    text = f"{str(refused)[0].upper()}{str(refused)[1:]}."
    await answer(send, refused.status, text, headers={"cache-control": "no-store", "connection": "close"})
