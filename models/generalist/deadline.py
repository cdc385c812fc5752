"""One deadline for an answer of a served generalist, whatever its server does.

A client's time-out counts the seconds of silence, so that a server that sends a byte a second is waited for
for ever, and each retry begins anew. The deadline holds for all of it: connecting, retries, their waits, and
the answer to its last byte.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import openai

from ...errors import GeneralistError

# The client stands on httpx or on its successor, by version.
_http: object = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])


class Deadline(NamedTuple):
    """When an answer must be there."""

    ends: float
    """By the monotonic clock."""
    seconds: float
    """That it had."""

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.ends - time.monotonic()


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


class DeadlineExceeded(GeneralistError, openai.OpenAIError):
    """An answer did not arrive whole in time. The client does not try again after this one."""


@contextmanager
def within(seconds: float) -> Generator[Deadline]:
    """Let everything asked inside end by then; within another deadline, that one holds."""
    if outer := _current.get():
        yield outer
        return
    deadline = Deadline(time.monotonic() + seconds, seconds)
    token = _current.set(deadline)
    try:
        yield deadline
    finally:
        _current.reset(token)


def keep_deadline(client: openai.OpenAI, seconds: float, where: str) -> None:
    """Bound each request of a client.

    A server that falls silent just before the end is waited for as long as the client's own time-out says.

    Args:
        client: of a server.
        seconds: for one request with its retries.
        where: the server's address, for the error.
    """
    ask: Any = client.request
    send: Any = client._send_request  # pyright: ignore[reportPrivateUsage]

    def request(*arguments: object, **more: object) -> object:
        with within(seconds):
            return ask(*arguments, **more)

    def bounded(sent: Any, *, stream: bool, **more: object) -> object:
        with within(seconds) as deadline, _in_time(deadline, where):
            _hurry(sent, deadline, where)
            response = send(sent, stream=True, **more)
            response.stream = _Stream(response.stream, deadline, where)
            if not stream:
                response.read()
            return response

    client.__dict__.update(request=request, _send_request=bounded)


def keep_deadline_async(client: openai.AsyncOpenAI, seconds: float, where: str) -> None:
    """The same for an asynchronous client, to the second."""
    ask: Any = client.request
    send: Any = client._send_request  # pyright: ignore[reportPrivateUsage]

    async def request(*arguments: object, **more: object) -> object:
        with within(seconds) as deadline:
            try:
                async with asyncio.timeout(deadline.left):
                    return await ask(*arguments, **more)
            except TimeoutError:
                raise _exceeded(deadline, where) from None

    async def bounded(sent: Any, *, stream: bool, **more: object) -> object:
        with within(seconds) as deadline, _in_time(deadline, where):
            _hurry(sent, deadline, where)
            response = await send(sent, stream=True, **more)
            response.stream = _AsyncStream(response.stream, deadline, where)
            if not stream:
                await response.aread()
            return response

    client.__dict__.update(request=request, _send_request=bounded)


class _Stream(_http.SyncByteStream):
    """The bytes of an answer until the deadline."""

    def __init__(self, stream: Any, deadline: Deadline, where: str) -> None:
        self._stream, self._deadline, self._where = stream, deadline, where

    def __iter__(self) -> Iterator[bytes]:
        with _in_time(self._deadline, self._where):
            for piece in self._stream:
                if self._deadline.left <= 0:
                    raise _exceeded(self._deadline, self._where)
                yield piece

    def close(self) -> None:
        self._stream.close()


class _AsyncStream(_http.AsyncByteStream):
    """The same, asynchronously."""

    def __init__(self, stream: Any, deadline: Deadline, where: str) -> None:
        self._stream, self._deadline, self._where = stream, deadline, where

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = aiter(self._stream)
        while True:
            try:
                async with asyncio.timeout(self._deadline.left):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise _exceeded(self._deadline, self._where) from None
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


def _hurry(request: Any, deadline: Deadline, where: str) -> None:
    """Bring a request's time-outs down to what is left."""
    left = deadline.left
    if left <= 0:
        raise _exceeded(deadline, where)
    given = request.extensions.get("timeout", {})
    times = {name: min(given.get(name) or left, left) for name in ("connect", "read", "write", "pool")}
    request.extensions = {**request.extensions, "timeout": times}


@contextmanager
def _in_time(deadline: Deadline, where: str) -> Generator[None]:
    """What fails because the time is up, says so."""
    try:
        yield
    except DeadlineExceeded:
        raise
    except Exception:
        if deadline.left <= 0:
            raise _exceeded(deadline, where) from None
        raise


def _exceeded(deadline: Deadline, where: str) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"the server at {where} gave no whole answer within {deadline.seconds:g} s, retries included; it"
        " hangs or is overloaded, or GSCO_GENERALIST_TIMEOUT is too short"
    )
