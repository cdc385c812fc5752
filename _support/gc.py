"""The garbage collector, and all that it need not look at."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def frozen_objects() -> Generator[None]:
    """Spare the collector what is there already, for the time of a ``with`` block of long work.

    Libraries and models are half a million objects that stay; every full collection would look through them
    anew, and hold up all threads for half a second each time.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
