"""JSON from clients: bounded in its number of values, and parsed outside the event loop.

A body within the limit on bytes may still hold millions of keys, which take Python many seconds, and all
that time the interpreter does nothing else. Base64 and most text hold no commas, colons or brackets, so
counting these bounds the number of values at the speed of memory.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from .http_messages import RequestRefused, answer, read_body, replayed

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_VALUES = 250_000
"""Commas, colons and opening brackets in one body, those in texts included."""
_SIGNS = (b",", b":", b"[", b"{")
_SMALL = 64 * 2**10
"""Bytes up to which a thread costs more than it saves."""


class JsonTooComplex(ValueError):
    """A body has too many values, is nested too deeply, or holds a number that is too long."""


def check_json(body: bytes) -> None:
    """Refuse a body with too many values; whether it is JSON at all is not looked at.

    Raises:
        JsonTooComplex: it has.
    """
    if sum(map(body.count, _SIGNS)) > MOST_VALUES:
        raise JsonTooComplex(f"the JSON holds more than {MOST_VALUES} values and separators; send less")


def parse_json(body: bytes) -> object:
    """Parse a body within the limits.

    Raises:
        JsonTooComplex: it is over a limit.
        json.JSONDecodeError: it is not JSON.
    """
    check_json(body)
    try:
        return json.loads(body)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise JsonTooComplex("the JSON is nested too deeply") from None
    except ValueError:
        raise JsonTooComplex("the JSON holds a number that is too long, or text that is not UTF-8") from None


async def parsed_json(body: bytes) -> object:
    """``parse_json``, in a thread where the body is large."""
    return parse_json(body) if len(body) < _SMALL else await asyncio.to_thread(parse_json, body)


class JsonLimits:
    """Middleware for applications that parse by themselves: it reads a JSON body, checks it and hands it on.

    Args:
        app: what comes behind.
        max_bytes: size of a body; a larger one is refused. Together, those that arrive or are worked on may
            have four times as many.
        seconds: for a body to arrive whole.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float = 60.0) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and hand it on."""
        if scope["type"] != "http" or scope["method"] != "POST" or _is_form(scope):
            return await self._app(scope, receive, send)
        held = 0

        async def counted() -> Message:
            nonlocal held
            message = await receive()
            size = len(message.get("body", b""))
            if self._held + size > 4 * self._max_bytes:
                raise RequestRefused(429, "too many requests are arriving; try again in a moment")
            self._held += size
            held += size
            return message

        try:
            try:
                body = await read_body(counted, self._max_bytes, self._seconds)
                check_json(body)
            except (RequestRefused, JsonTooComplex) as error:
                status = error.status if isinstance(error, RequestRefused) else 413
                text = json.dumps({"error": str(error)})
                return await answer(send, status, text, "application/json", {"connection": "close"})
            return await self._app(scope, replayed(body, receive), send)
        finally:
            self._held -= held


def _is_form(scope: Scope) -> bool:
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return any(value.lower().startswith(b"multipart/form-data") for value in kinds)
