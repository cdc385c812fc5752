"""Programs under attack: real processes of ``gsco``, whose memory and liveness are watched."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from ..forked import ForkedCommand
from ..memory import forget_peak, peak

MIB = 2**20
STARTING = 180.0
KEY = "key-of-anna-0123456789"


def environment(home: Path, **more: str) -> dict[str, str]:
    """That of a fresh installation: nothing of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GSCO_")}
    return {**kept, "GSCO_HOME": str(home), "GSCO_TORCH_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}


def gsco(*arguments: str) -> list[str]:
    """The command line of ``gsco``."""
    return [sys.executable, "-m", "gsco.agent.cli", *arguments]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Watched:
    """A server in a process of its own.

    Attributes:
        url: where it listens.
        process: the process.
        log: what it prints.
        rest: bytes of memory that it held before the attack.
        peak: most bytes that it held since.
        slowest: seconds of the slowest answer of ``/healthz`` since.
        others: share of the machine that neither the server nor the test used meanwhile, but others did.
    """

    url: str
    process: ForkedCommand
    log: Path
    rest: int = 0
    peak: int = 0
    slowest: float = 0.0
    others: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Measure memory and liveness while something is done to the server."""
        self.rest = forget_peak(self.process.pid)
        self.slowest = 0.0
        before = self._ticks()
        self._over.clear()
        asking = threading.Thread(target=self._ask)
        asking.start()
        try:
            yield
        finally:
            self._over.set()
            asking.join(60)
            self.peak = peak(self.process.pid)
            total, foreign = (late - early for late, early in zip(self._ticks(), before, strict=True))
            self.others = max(0.0, foreign / total) if total else 0.0

    @property
    def growth(self) -> int:
        """Bytes above the rest, at the peak."""
        return self.peak - self.rest

    def end(self, seconds: float = 60.0) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def _ticks(self) -> tuple[float, float]:
        """Seconds of all processors so far, and those that were spent for neither the server nor the test."""
        spent = psutil.cpu_times()
        idle = spent.idle + getattr(spent, "iowait", 0.0)
        own = sum(sum(psutil.Process(one).cpu_times()[:2]) for one in (self.process.pid, os.getpid()))
        return sum(spent), sum(spent) - idle - own

    def _ask(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self._over.wait(0.05):
                start = time.monotonic()
                assert client.get("/healthz").status_code == 200
                self.slowest = max(self.slowest, time.monotonic() - start)


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Watched]]:
    """``start("serve", "api", GSCO_…="…")``: a server that is ready."""
    started: list[ForkedCommand] = []

    def begin(*command: str, ready: str = "/readyz", home: Path | None = None, **more: str) -> Watched:
        port = free_port()
        log = tmp_path / f"server-{port}.log"
        own = environment(home or tmp_path / "home", **more)
        process = ForkedCommand(*command, "--port", str(port), environment=own, out=log, err=log)
        started.append(process)
        server = Watched(f"http://127.0.0.1:{port}", process, log)
        _await(server, ready)
        return server

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait(20)


def _await(server: Watched, path: str) -> None:
    end = time.monotonic() + STARTING
    while time.monotonic() < end:
        assert server.process.poll() is None, server.log.read_text()
        try:
            if httpx.get(server.url + path, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"the server was not ready in time:\n{server.log.read_text()}")
