"""Failures of the disk: which errors they are, and the one sentence that names the path."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DiskError

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the quota of the disk is used up; free some space",
    errno.EFBIG: "the file would be larger than is allowed; raise the limit (ulimit -f)",
    errno.EROFS: "the file system may only be read; name another folder",
    errno.EIO: "the disk fails; look at the system's log",
    errno.EACCES: "it may not be written; check its permissions",
    errno.EPERM: "it may not be written; check its permissions",
}
_SQLITE = {
    sqlite3.SQLITE_FULL: _ADVICE[errno.ENOSPC],
    sqlite3.SQLITE_IOERR: "the disk is full or fails; free some space",
    sqlite3.SQLITE_READONLY: _ADVICE[errno.EACCES],
    sqlite3.SQLITE_CANTOPEN: "a file beside it cannot be written; check space and permissions",
}


def disk_error(error: BaseException, path: Path | None = None) -> DiskError | None:
    """Say what is wrong with the disk; None where an error is about something else.

    Args:
        error: an ``OSError`` or an error of SQLite's.
        path: what was written, where the error does not name it.

    Example:
        >>> str(disk_error(OSError(errno.ENOSPC, "", "a.png")))
        'a.png cannot be written: the disk is full; free some space and try again'
    """
    advice = None
    if isinstance(error, OSError):
        advice = _ADVICE.get(error.errno or 0)
    elif isinstance(error, sqlite3.Error):
        advice = _SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    if advice is None:
        return None
    named = path or (os.fspath(error.filename) if isinstance(error, OSError) and error.filename else None)
    return DiskError(f"{named or 'a file'} cannot be written: {advice} and try again")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the path where a write fails: the system's error on a full disk does not.

    Raises:
        DiskError: the disk is full, or may not be written to.
    """
    try:
        yield
    except OSError as error:
        if problem := disk_error(error, path):
            raise problem from error
        raise
