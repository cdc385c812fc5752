"""The most memory that something takes, by the kernel's own count.

``ru_maxrss`` would not do: it never falls, and that of a child begins with its parent's.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def forget_peak(process: int | None = None) -> int:
    """Begin anew to note the peak of a process (None: this one), and return what it holds now, in bytes."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    (_place(process) / "clear_refs").write_text("5")
    return _bytes(process, "VmRSS")


def peak(process: int | None = None) -> int:
    """Most bytes that a process held since its peak was forgotten."""
    return _bytes(process, "VmHWM")


def peak_above_rest(action: Callable[[], object]) -> int:
    """Do something in this process, and return the bytes that it took at the peak."""
    gc.collect()
    rest = forget_peak()
    action()
    return peak() - rest


def _place(process: int | None) -> Path:
    return Path("/proc", str(process or os.getpid()))


def _bytes(process: int | None, field: str) -> int:
    lines = (_place(process) / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024
