"""Reading in silence: the libraries underneath quote the content of a file in warnings and log records.

pydicom warns with the value of a tag that it finds odd, and Pillow logs the text of TIFF tags. Both
may be a patient's name. What matters to a user is raised as an error of ours instead.
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

_LIBRARIES = re.compile(r"(PIL|pydicom|pylibjpeg|openjpeg|libjpeg|rle)(\.|$)")
_LATE = ("openjpeg.decode",)
"""Loggers that are made only when there is something to log."""
_RULE = ("ignore", None, Warning, _LIBRARIES, 0)

_lock = threading.Lock()
_readers = 0
_ruled: list[list[object]] = []
_silenced: set[str] = set()
_here = threading.local()


class _ThreadFilter(logging.Filter):
    """Drops what a library logs while this thread reads an image; other threads may log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_here, "depth", 0)


@contextmanager
def quiet() -> Generator[None]:
    """Silence the reading libraries, in this thread's log and, while anybody reads, among the warnings.

    ``warnings.catch_warnings`` is not used: it swaps the filters of the whole process, and two threads
    that leave it in the wrong order leave the wrong filters behind. One rule that is put in and taken
    out again disturbs nobody.
    """
    global _readers
    rules = cast("list[Any]", warnings.filters)
    with _lock:
        _readers += 1
        silence_loggers()
        if not rules or rules[0] != _RULE:
            rules.insert(0, _RULE)
            _ruled.append(rules)
    _here.depth = getattr(_here, "depth", 0) + 1
    try:
        yield
    finally:
        _here.depth -= 1
        with _lock:
            _readers -= 1
            while not _readers and _ruled:
                rules = _ruled.pop()
                if _RULE in rules:
                    rules.remove(_RULE)


def silence_loggers() -> None:
    """Reach the loggers that the libraries have made by now. Called again by whoever imports more of them."""
    known = logging.Logger.manager.loggerDict
    if len(known) == len(_silenced):
        return
    for name in _LATE:
        logging.getLogger(name)
    for name in [name for name in known if name not in _silenced]:
        _silenced.add(name)
        if _LIBRARIES.match(name):
            logging.getLogger(name).addFilter(_ThreadFilter())
