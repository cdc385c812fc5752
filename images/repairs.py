"""Repairs of an image: what was wrong in its file and was put right or left out, in plain sentences.

No value of a file is quoted, since it may be a patient's.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_log = logging.getLogger(__name__)
_repairs: ContextVar[list[str] | None] = ContextVar("repairs", default=None)


def repaired(what: str) -> None:
    """Note a repair in the log, and for whoever collects the repairs of this image."""
    _log.warning("%s", what)
    noted = _repairs.get()
    if noted is not None and what not in noted:
        noted.append(what)


@contextmanager
def collected_repairs() -> Generator[list[str]]:
    """Collect the repairs that are noted in a ``with`` block.

    Example:
        >>> with collected_repairs() as repairs:
        ...     repaired("The window of the DICOM file cannot be read and was left out.")
        >>> repairs
        ['The window of the DICOM file cannot be read and was left out.']
    """
    noted: list[str] = []
    token = _repairs.set(noted)
    try:
        yield noted
    finally:
        _repairs.reset(token)
