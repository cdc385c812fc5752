"""A memory budget for decoding, shared by all threads of the process."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache

DECODING_BYTES = 768 * 2**20
_LARGE = 64 * 2**20
_M_MMAP_THRESHOLD = -3
_RETURNED_BYTES = 8 * 2**20


class MemoryBudget:
    """Bytes that may be in use at once; who asks for more than is left waits, in order of arrival.

    A request for more than the whole budget is granted when nothing else is in use: what an image may need
    at most is the business of ``ImageLimits``.

    Args:
        capacity: bytes.

    Example:
        >>> budget = MemoryBudget(10)
        >>> with budget.reserved(8):
        ...     budget.used
        8
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def reserved(self, count: int) -> Generator[None]:
        """Hold so many bytes of the budget; not to be nested in one thread."""
        if count >= _LARGE:
            _return_large_blocks()
        taken = min(count, self.capacity)
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(
                    lambda: self._waiting[0] is ticket and self.used + taken <= self.capacity
                )
                self.used += taken
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self.used -= taken
                self._changed.notify_all()


DECODING = MemoryBudget(DECODING_BYTES)
"""Of this process. Large images are decoded one at a time, small ones side by side."""


def decoding_cost(width: int, height: int) -> int:
    """Bytes that decoding an image takes at most, roughly.

    Pillow keeps four bytes for a colour pixel, and a conversion makes a second copy.
    """
    return 8 * width * height


@cache
def _return_large_blocks() -> None:
    """Let blocks of 8 MiB and more go back to the system as soon as they are freed.

    glibc raises this bound by itself to 32 MiB, and each thread then keeps some of Pillow's blocks of 16 MiB:
    nine images of 64 megapixels, decoded by nine threads, left a process at 1.7 GB instead of 0.6 GB.
    """
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _RETURNED_BYTES)
