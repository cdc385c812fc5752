"""How many threads torch computes with: as many as are faster, measured once where the machine is what it is.

Torch's default is one thread per core. On a machine whose cores are busy its threads wait for each other:
with two threads on two busy cores the same convolutions took 4 to 12 times as long as with one.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from threading import Lock

WORTH = 0.9
"""Twice the threads must need at most this share of the time."""
_REPEATS = 12
_FIXED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_choosing = Lock()
_chosen: TorchThreads | None = None


@dataclass(frozen=True)
class TorchThreads:
    """A number of threads and where it comes from."""

    count: int
    """0: torch's own."""
    reason: str


def planned_threads(wanted: int) -> TorchThreads:
    """What is going to be used, as far as it can be told without torch.

    Args:
        wanted: ``Settings.torch_threads``; 0 leaves it to the measurement.
    """
    if wanted > 0:
        return TorchThreads(wanted, f"{wanted} torch threads, by GSCO_TORCH_THREADS")
    for name in _FIXED:
        if os.environ.get(name):
            return TorchThreads(0, f"{os.environ[name]} torch threads, by {name}")
    if _chosen is not None:
        return _chosen
    return TorchThreads(
        0, "torch threads are measured when the first model loads, or set by GSCO_TORCH_THREADS"
    )


def set_threads(wanted: int) -> TorchThreads:
    """Set torch's threads before models compute; what is not set is measured, once per process.

    Args:
        wanted: ``Settings.torch_threads``; 0 measures, unless one of ``_FIXED`` is set.
    """
    global _chosen
    import torch

    with _choosing:
        planned = planned_threads(wanted)
        if planned.count:
            torch.set_num_threads(planned.count)
        elif _chosen is None and not any(os.environ.get(name) for name in _FIXED):
            _chosen = _measured(torch.get_num_threads())
            torch.set_num_threads(_chosen.count)
            return _chosen
        return planned


def _measured(most: int) -> TorchThreads:
    """Double the threads as long as that is worth it, up to torch's own number."""
    count, best = 1, min(_seconds(1), _seconds(1))
    first = best
    while (more := min(2 * count, most)) > count:
        seconds = _seconds(more, limit=WORTH * best)
        if seconds > WORTH * best:
            break
        count, best = more, seconds
    if count == 1:
        return TorchThreads(1, f"1 torch thread, measured: more are not faster (of {most})")
    return TorchThreads(count, f"{count} torch threads, measured: {first / best:.1f} times as fast as one")


def _seconds(threads: int, limit: float = float("inf")) -> float:
    """Time for convolutions like those of the bundled models; it stops where the limit is passed."""
    import torch

    torch.set_num_threads(threads)
    pixels, kernel = torch.ones(4, 32, 40, 40), torch.ones(64, 32, 3, 3)
    with torch.inference_mode():
        torch.conv2d(pixels, kernel)  # the first makes the threads
        start = time.perf_counter()
        for _ in range(_REPEATS):
            torch.relu(torch.conv2d(pixels, kernel))
            if time.perf_counter() - start > limit:
                break
    return time.perf_counter() - start
