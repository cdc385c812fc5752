"""Files of others, read without waiting, and failures of the disk in one sentence that names the path."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sqlite3
import stat
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from .errors import DiskError

DAMAGED_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,  # a compression or an encryption that zipfile does not know
    RuntimeError,
    ValueError,
    OverflowError,
)
"""What zipfile raises for archives that are damaged or made up."""
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
def writing(path: Path) -> Generator[None]:
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


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Give a path to write a file or a folder at, which takes the place of ``path`` once it is whole.

    Where that fails, nothing of it is left, and ``path`` is as it was.

    Raises:
        DiskError: it cannot be written.

    Example:
        ```python
        with replacing(folder / "card.json") as fresh:
            fresh.write_text(text, encoding="utf-8")
        ```
    """
    # The ending stays: numpy adds one of its own to a name without it.
    fresh = path.with_name(f".{os.getpid()}.{path.name}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _remove(fresh)
            yield fresh
            if fresh.is_dir():
                _remove(path)
            fresh.replace(path)
        finally:
            _remove(fresh)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class NotRegularFile(OSError):
    """A folder, device, pipe or socket stands where a file should be."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(errno.EINVAL, "it is not a regular file", os.fspath(path))


def read_file(path: str | Path, most: int) -> bytes:
    """Read a regular file of at most so many bytes.

    Raises:
        NotRegularFile: it is a folder, a device or a pipe.
        OSError: it is larger, or cannot be opened.
    """
    with _regular(path) as (descriptor, size):
        if size > most:
            raise OSError(errno.EINVAL, f"it is larger than {most} bytes", os.fspath(path))
        return _read(descriptor, size)


def read_head(path: str | Path, most: int) -> bytes:
    """Read the first bytes of a regular file.

    Raises:
        NotRegularFile: it is a folder, a device or a pipe.
        OSError: it cannot be opened.
        ValueError: the path holds a NUL.
    """
    with _regular(path) as (descriptor, size):
        return _read(descriptor, min(size, most))


@contextmanager
def _regular(path: str | Path) -> Generator[tuple[int, int]]:
    """Open a file once, and look at the open handle: its descriptor, and what it has at first if it grows."""
    # Without O_NONBLOCK, opening a pipe waits for its other end.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotRegularFile(path)
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def _read(descriptor: int, size: int) -> bytes:
    pieces = list[bytes]()
    while size and (piece := os.read(descriptor, size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
