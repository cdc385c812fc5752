"""Connections of the servers: a client that sends or reads nothing does not hold one for long.

uvicorn has a time limit for idle connections only once they have had an answer. Here a request's header must
arrive in time from the first byte on, an answer must be read, and of the connections that wait for a request
the oldest make room for new ones. A request whose end can be read in two ways is refused: a proxy that reads
it the other way would hand on what a client hid in it as somebody's next request.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

FILES = 65_536
"""File descriptors that a server asks the system for; each connection takes one."""


@dataclass(frozen=True)
class ConnectionLimits:
    """How long a connection may take, and how many may wait."""

    header_seconds: float = 10.0
    """From connecting, or from the first byte of a further request, to the end of the header."""
    stalled_seconds: float = 60.0
    """An answer that is not read for so long is cut off."""
    waiting: int = 512
    """Connections without a request; where there are more, the oldest are closed."""
    idle_seconds: int = 30
    """Between two requests of a connection."""


class StrictParser(h11.Connection):
    """h11's parser, which takes the encoding where a request names both a length and an encoding."""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        """The next part of a request.

        Raises:
            h11.RemoteProtocolError: it cannot be read, or its end is ambiguous.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = {name for name, _ in event.headers}
            if b"transfer-encoding" in names and (b"content-length" in names or event.http_version < b"1.1"):
                raise h11.RemoteProtocolError("both a length and a transfer encoding, or HTTP/1.0 with one")
        return event


class TimedConnection(H11Protocol):
    """One connection, within the limits. ``timed_connections`` makes the class for a server."""

    limits: ConnectionLimits
    waiting: OrderedDict[TimedConnection, None]
    _header_timer: asyncio.TimerHandle | None = None
    _stalled_timer: asyncio.TimerHandle | None = None

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        size = self.config.h11_max_incomplete_event_size
        self.conn = StrictParser(h11.SERVER, *(() if size is None else (size,)))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._await_header()
        while len(self.waiting) > self.limits.waiting:
            self.waiting.popitem(last=False)[0].transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timers()
        self.waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a header or a body."""
        if not self._answering() and self._header_timer is None:
            self._await_header()
        super().data_received(data)
        if self._answering() and self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
            self.waiting.pop(self, None)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing() and not self._answering():
            self.waiting[self] = None

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        super().pause_writing()
        self._stalled_timer = self.loop.call_later(self.limits.stalled_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that it does again."""
        super().resume_writing()
        if self._stalled_timer is not None:
            self._stalled_timer.cancel()

    def _answering(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None until the first request
        return cycle is not None and not cycle.response_complete

    def _await_header(self) -> None:
        self.waiting[self] = None
        self._header_timer = self.loop.call_later(self.limits.header_seconds, self.transport.abort)

    def _stop_timers(self) -> None:
        for timer in (self._header_timer, self._stalled_timer):
            if timer is not None:
                timer.cancel()


def timed_connections(limits: ConnectionLimits) -> type[TimedConnection]:
    """Make the protocol class of one server."""
    return type("TimedConnection", (TimedConnection,), {"limits": limits, "waiting": OrderedDict()})


def server_options(limits: ConnectionLimits | None = None) -> dict[str, object]:
    """Arguments of ``uvicorn.Config`` that put the limits on a server's connections."""
    limits = limits or ConnectionLimits()
    return {"http": timed_connections(limits), "ws": "none", "timeout_keep_alive": limits.idle_seconds}


def allow_open_files() -> None:
    """Raise the soft limit on open files, which is often 1,024, as far as the system lets us."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
