"""From LangGraph's streams to typed events, and streams that show that they live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, AIMessageChunk

from ..graphs.events import Event, ReviewRequested, Text

T = TypeVar("T")
STILL_WORKING = 10.0
"""Seconds of silence after which a stream says that it is alive, so that no proxy closes it."""


async def breathing(
    pieces: AsyncIterator[T],
    limit: float,
    silence: float = STILL_WORKING,
    stop: asyncio.Event | None = None,
) -> AsyncGenerator[T | None]:
    """Yield None whenever nothing came for a while. Close it before ``pieces``, whose next one it awaits.

    Args:
        pieces: what comes.
        limit: seconds for all of it.
        silence: seconds of it that are too long.
        stop: ends it at once where it is set.

    Raises:
        TimeoutError: the limit is over. ``asyncio.timeout`` would strike whoever waits for a piece instead.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + limit
    coming = asyncio.ensure_future(anext(pieces, None))
    stopping = asyncio.ensure_future((stop or asyncio.Event()).wait())
    try:
        while True:
            left = end - clock()
            done, _ = await asyncio.wait(
                [coming, stopping], timeout=max(0.0, min(silence, left)), return_when=asyncio.FIRST_COMPLETED
            )
            if stopping in done:
                return
            if not done and left <= silence:
                raise TimeoutError
            if not done:
                yield None
                continue
            if (piece := coming.result()) is None:
                return
            yield piece
            coming = asyncio.ensure_future(anext(pieces, None))
    finally:
        stopping.cancel()
        coming.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await coming


async def events_of(stream: AsyncIterator[Any]) -> AsyncIterator[Event]:
    """Events of a run of the consultation graph, streamed as ``messages``, ``updates`` and ``custom``."""
    told = _StreamedMessages()
    async for mode, chunk in stream:
        if mode == "custom":
            yield chunk
        elif mode == "messages":
            if text := told.text(chunk[0]):
                yield Text(text=text)
        elif isinstance(chunk, Mapping):
            for interrupt in chunk.get("__interrupt__", ()):
                yield ReviewRequested.model_validate(interrupt.value)


class _StreamedMessages:
    """Which messages were streamed in pieces, so that none is told again as a whole."""

    def __init__(self) -> None:
        self._pieces: set[str] = set()

    def text(self, message: object) -> str:
        """What is new in a message; of others than the generalist's, nothing."""
        if not isinstance(message, AIMessage):
            return ""
        if isinstance(message, AIMessageChunk):
            self._pieces.add(message.id or "")
            return message.text
        return "" if message.id in self._pieces else message.text
