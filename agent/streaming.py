"""From LangGraph's streams to typed events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk

from ..graphs.events import Event, ReviewAsked, Text


async def events_of(stream: AsyncIterator[Any]) -> AsyncIterator[Event]:
    """Events of a run of the consultation graph, streamed as ``messages``, ``updates`` and ``custom``."""
    told = _Told()
    async for mode, chunk in stream:
        if mode == "custom":
            yield chunk
        elif mode == "messages":
            if text := told.text(chunk[0]):
                yield Text(text=text)
        elif isinstance(chunk, Mapping):
            for interrupt in chunk.get("__interrupt__", ()):
                yield ReviewAsked.model_validate(interrupt.value)


class _Told:
    """Which messages were streamed in pieces, so that none is told again as a whole."""

    def __init__(self) -> None:
        self._pieces: set[str] = set()

    def text(self, message: Any) -> str:
        """What is new in a message; of others than the generalist's, nothing."""
        if not isinstance(message, AIMessage):
            return ""
        if isinstance(message, AIMessageChunk):
            self._pieces.add(message.id or "")
            return message.text
        return "" if message.id in self._pieces else message.text
