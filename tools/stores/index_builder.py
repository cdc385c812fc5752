"""Makes a graph in the background where a search has found that it is missing."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from ...errors import StoreError
from .graph import Stopped, make_graph

log = logging.getLogger(__name__)


class GraphBuilder:
    """One thread at most, which ends with the store; searches are exact until it is done.

    Args:
        path: the database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failed: set[str] = set()

    def want(self, encoder: str) -> None:
        """Begin with the graph of an encoder, unless one is being made or it could not be made before."""
        with self._lock:
            busy = self._thread is not None and self._thread.is_alive()
            if busy or self._stop.is_set() or encoder in self._failed:
                return
            arguments = (self._path, encoder, self._stop, self._failed)
            self._thread = threading.Thread(target=_make, args=arguments, name="gsco-graph", daemon=True)
            self._thread.start()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the graph that is being made."""
        if self._thread is not None:
            self._thread.join(seconds)

    def close(self) -> None:
        """Call it off; a graph that is not whole by now is not published."""
        self._stop.set()
        self.wait(30)


def _make(path: Path, encoder: str, stop: threading.Event, failed: set[str]) -> None:
    try:
        make_graph(path, encoder, stop=stop.is_set)
    except Stopped:
        return
    except (StoreError, OSError, RuntimeError) as error:
        # Searching goes on without: exact, and slower.
        failed.add(encoder)
        log.warning("no index for encoder %r beside %s: %s", encoder, path.name, error)
