"""How long a start takes, against the import of torch and timm that every peer begins with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from .timing import Race, print_table, race

PEER = "import torch, timm"
LIMITS = {"import gsco": 0.3, "gsco --help": 0.5}
"""Seconds that a start may take on the reference machine."""


def contenders() -> dict[str, Callable[[], object]]:
    """Name every start that is compared; each runs in a fresh process."""
    return {
        "python, nothing else": _started("-c", "pass"),
        "import gsco": _started("-c", "import gsco"),
        "gsco --help": _started("-c", "from gsco.agent.cli import app; app()", "--help"),
        PEER: _started("-c", PEER),
    }


def measure(rounds: int = 5) -> Race:
    """Start each contender in turns."""
    return race(contenders(), rounds=rounds)


def main() -> None:
    """Measure and print the table."""
    result = measure()
    rows = [
        (
            name,
            f"{result.median(name):.3f}",
            f"{result.speed(name, PEER):.1f}",
            f"{LIMITS[name]:.1f}" if name in LIMITS else "",
        )
        for name in result.seconds
    ]
    print_table(
        "Start",
        ("start", "seconds", "times as fast as torch + timm", "limit (s)"),
        rows,
        note="Median of 5 interleaved fresh processes; Python's own start is included.",
    )


def _started(*arguments: str) -> Callable[[], object]:
    return partial(_run, (sys.executable, *arguments))


def _run(command: Sequence[str]) -> None:
    # The home folder keeps a stray package in the current one from being imported in place of gsco.
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path.home(), env=environment)


if __name__ == "__main__":
    main()
