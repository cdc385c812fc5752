"""Real processes of ``gsco`` that start at once: forked from one that has the libraries loaded."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).with_name("forked_command.py")
_LOADED = (
    "pytest",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "sklearn.linear_model",
    "scipy.stats",
    "pydicom",
    "uvicorn",
    "fastapi",
    "langgraph.graph",
    "gsco.agent.api",
    "gsco.agent.cli",
)


class ForkedCommand:
    """A command in a process of its own, with the methods of ``subprocess.Popen`` that the tests use.

    Args:
        words: of the command line, after ``gsco``.
        environment: all of it.
        out: its standard output is appended to this file.
        err: its standard error.
    """

    def __init__(self, *words: str, environment: dict[str, str], out: Path, err: Path) -> None:
        for path in (out, err):
            path.touch()
        given = {"words": list(words), "environment": environment, "out": str(out), "err": str(err)}
        self._process = _context().Process(
            target=runpy.run_path,
            args=(str(_SCRIPT),),
            kwargs={"init_globals": {"GIVEN": given}, "run_name": "gsco_command"},
        )
        self._process.start()
        atexit.register(self._process.kill)  # else the test program would wait for it at its end

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status; negative for a signal, None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def wait(self, seconds: float) -> int:
        """Wait for its end and return the exit status."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("gsco", seconds)
        return self._process.exitcode


def run_command(
    *words: str, environment: dict[str, str], folder: Path, seconds: float = 200
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Args:
        words: of the command line, after ``gsco``.
        environment: all of it.
        folder: for what it prints.
        seconds: that it may take.
    """
    number = len(list(folder.glob("command-*.out")))
    out, err = (folder / f"command-{number}.{kind}" for kind in ("out", "err"))
    command = ForkedCommand(*words, environment=environment, out=out, err=err)
    try:
        status = command.wait(seconds)
    except subprocess.TimeoutExpired:
        command.kill()
        raise
    return subprocess.CompletedProcess(["gsco", *words], status, out.read_text(), err.read_text())


@cache
def _context() -> ForkServerContext:
    if not sys.platform.startswith("linux"):
        pytest.skip("needs processes that are forked")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_LOADED))
    with pytest.MonkeyPatch.context() as patch:
        # Read when these libraries are imported.
        patch.setenv("HF_HUB_OFFLINE", "1")
        for name in [name for name in os.environ if name.startswith("GSCO_")]:
            patch.delenv(name)
        forkserver.ensure_running()
    return context
