"""A vLLM process: started in a group of its own, waited for, and stopped with everything it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ...errors import ConfigurationError, GeneralistError
from . import watch
from .command import Launch

READY = 1800.0
"""Seconds to load the weights of a large model from a slow disk."""
GRACE = 30.0
"""Seconds between asking the processes to end and ending them."""
_LAST = 5.0
"""Seconds that the system may take to end them."""
_POLL = 0.5
_SHOWN = 12
_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


class Server:
    """One vLLM server; a context manager that starts it, waits until it is ready, and stops it.

    Args:
        launch: what is served.
        python: interpreter that has vLLM.
        log: file that its output goes to.
        ready: seconds to wait until it is ready.
        waiting: called now and then with the seconds waited and the log's last line.
    """

    def __init__(
        self,
        launch: Launch,
        python: str,
        log: Path,
        *,
        ready: float = READY,
        waiting: Callable[[float, str], object] = lambda seconds, line: None,
    ) -> None:
        self.launch = launch
        self.url = launch.url
        self.log = log
        self._python = python
        self._ready = ready
        self._waiting = waiting
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def group(self) -> int:
        """Id of the process group; 0 before the start."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it.

        Raises:
            ConfigurationError: the port is taken, or the interpreter does not start.
        """
        _check_port(self.launch.host, self.launch.port)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # What the user has set counts, but for the path, which must not lead to packages of this process.
        environment = {**self.launch.environment, **os.environ, "PYTHONPATH": str(self.launch.plugin or "")}
        with self.log.open("ab") as output:
            _claim(output, self.launch.port, self.log)
            try:
                self._process = subprocess.Popen(
                    self.launch.command(self._python),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    start_new_session=True,
                    preexec_fn=_end_with_parent() if sys.platform == "linux" else None,
                )
            except OSError as error:
                raise ConfigurationError(f"{self._python} does not start: {error.strerror}") from error
        self._watcher = subprocess.Popen(
            [sys.executable, str(Path(watch.__file__)), str(self.group)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        """Wait until it answers.

        Raises:
            GeneralistError: it ended, or was not ready in time.
        """
        start, health = time.monotonic(), self.url.removesuffix("/v1") + "/health"
        while (waited := time.monotonic() - start) < self._ready:
            if not self.running():
                raise GeneralistError(f"vLLM ended before it was ready; see {self.log}\n{self.tail()}")
            if _answers(health):
                return
            self._waiting(waited, self.tail(1))
            time.sleep(_POLL)
        raise GeneralistError(f"vLLM was not ready after {self._ready:.0f} s; see {self.log}\n{self.tail()}")

    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> int:
        """Wait until it ends by itself; returns its exit status."""
        return self._process.wait() if self._process else 0

    def stop(self) -> None:
        """End it and all processes that it started: first politely, then not."""
        if self._process is None:
            return
        for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, _LAST)):
            self._signal(number)
            end = time.monotonic() + patience
            while self._left() and time.monotonic() < end:
                time.sleep(0.1)
        self._process.wait()
        if self._watcher is not None:
            with suppress(OSError):
                self._watcher.communicate(b"x")
            self._watcher = None

    def tail(self, lines: int = _SHOWN) -> str:
        """The last lines of its log."""
        try:
            with self.log.open(encoding="utf-8", errors="replace") as log:
                return "".join(deque(log, lines)).strip()
        except OSError:
            return ""

    def _left(self) -> bool:
        """Whether any process of the group is left."""
        assert self._process is not None
        self._process.poll()  # takes the dead one off the list of processes
        try:
            os.killpg(self.group, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.group, number)


def _claim(log: BinaryIO, port: int, path: Path) -> None:
    """Take the log for this server; another one that still loads has it, though its port is free yet.

    The lock goes on to vLLM with the file, and lasts as long as any of its processes.
    """
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(
                f"another server for port {port} is starting or running, with its log in {path}; stop it, or"
                " give another --port"
            ) from error
    log.truncate(0)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"{host}:{port} cannot be used ({error.strerror}); give another --port"
            ) from error


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def _end_with_parent() -> Callable[[], None]:
    """Let the kernel end vLLM if this process is killed: then nobody is left to stop it."""
    import ctypes

    library, parent = ctypes.CDLL(None), os.getpid()

    def ask() -> None:
        library.prctl(_DIE_WITH_PARENT, signal.SIGTERM)
        if os.getppid() != parent:  # it was killed in between
            os._exit(1)

    return ask
