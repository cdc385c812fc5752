"""The end by SIGTERM, which systemd, containers and batch systems send.

What runs is unwound, so that stores are closed, and the command ends with status 0. Where that takes
longer than ``GSCO_SHUTDOWN_SECONDS``, because a decoder or a model hangs in a thread, the process is cut off:
SQLite's logs are then written back first. Transactions are whole in either case.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp

DEFAULT_SECONDS = 20.0
_databases: set[Path] = set()
_cutting_off = threading.Event()


class Terminated(BaseException):
    """SIGTERM has arrived; raised in the main thread."""


def handle_sigterm() -> None:
    """Let SIGTERM raise ``Terminated`` from now on, in this process's main thread."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)


def remember_database(path: Path) -> None:
    """Name an SQLite file whose log is to be written back if the process has to be cut off."""
    _databases.add(path)


def truncate_log(path: Path) -> None:
    """Write SQLite's log back into the file and empty it, as far as other programs allow."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=1.0)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def cut_off_later(seconds: float | None = None) -> None:
    """End the process after so many seconds, if it has not ended by itself; the first call counts."""
    if not _cutting_off.is_set():
        _cutting_off.set()
        left = _seconds() if seconds is None else seconds
        threading.Thread(target=_cut_off, args=(left,), name="gsco-shutdown", daemon=True).start()


@contextmanager
def terminated_by(close: Callable[[], object]) -> Generator[None]:
    """Within, SIGTERM closes and ends the process at once: for a thread that waits for standard input.

    Args:
        close: called in the main thread.
    """

    def end(number: int, frame: FrameType | None) -> None:
        cut_off_later()
        close()
        os._exit(0)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def run_server(
    app: ASGIApp, *, seconds: float, opened: Callable[[str], object] | None = None, **options: Any
) -> None:
    """Serve an ASGI application until SIGTERM or an interrupt.

    Args:
        app: the application.
        seconds: that running answers get then.
        opened: told the address once it listens there.
        options: of ``uvicorn.Config``.

    Raises:
        Terminated: SIGTERM arrived, and what ran has ended or was cut off.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if opened is not None and self.started:
                opened(_address(self.config.host, self.servers[0].sockets[0].getsockname()[1]))

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if sig == signal.SIGTERM:
                cut_off_later(2 * seconds)
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(seconds)),
        **options,
    )
    Server(config).run()


def _address(host: str, port: int) -> str:
    """Where a browser on this machine finds a server that listens at a host."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


def _terminate(number: int, frame: FrameType | None) -> None:
    cut_off_later()
    raise Terminated


def _seconds() -> float:
    from ..errors import ConfigurationError
    from .configuration import settings_from

    try:
        return settings_from().shutdown_seconds
    except ConfigurationError:
        return DEFAULT_SECONDS


def _cut_off(seconds: float) -> None:
    time.sleep(seconds)
    for path in _databases:
        truncate_log(path)
    os.write(2, b"gsco: ended by SIGTERM; what still ran was cut off\n")
    os._exit(0)
