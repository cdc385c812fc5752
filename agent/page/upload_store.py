"""Uploads of the page until a question uses them: files that this process issued an id for, and no others.

A client never names a path. It gets an id for each upload, which works for the user it was issued to only.
Names of uploaded files may hold a patient's name; they are not read.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ImageMissing, ImageTooLarge, StoreError

if TYPE_CHECKING:
    from ...settings import Settings

UPLOAD_ID = re.compile(r"upload-[0-9a-f]{32}")
LIFETIME = 3600.0
"""Seconds after which an upload that no question used is removed."""


@dataclass(frozen=True)
class UploadLimits:
    """How much may wait to be used in a question, in bytes."""

    file_bytes: int = 64 * 2**20
    user_bytes: int = 512 * 2**20
    """All uploads of one user."""
    total_bytes: int = 4 * 2**30
    """All uploads of all users."""
    user_files: int = 64

    @classmethod
    def from_settings(cls, settings: Settings) -> UploadLimits:
        """Read the limits from the settings."""
        return cls(settings.max_image_bytes, settings.upload_user_bytes, settings.upload_total_bytes)


@dataclass
class _Upload:
    user: str
    path: Path
    issued: float
    size: int = 0


class UploadStore:
    """Keeps uploads in a folder, within limits. Methods may be called from any thread.

    Args:
        folder: made here, readable by its owner only; uploads that an earlier process left in it are removed
            once they are older than ``LIFETIME``.
        limits: what is accepted.
    """

    def __init__(self, folder: Path, limits: UploadLimits | None = None) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self.limits = limits or UploadLimits()
        self._uploads: dict[str, _Upload] = {}
        self._lock = threading.Lock()
        _remove_stale(folder)

    @contextmanager
    def receive(self, user: str) -> Generator[UploadWriter]:
        """Open a new upload of a user; where the block raises, nothing of it is kept.

        Raises:
            ImageTooLarge: the user has too many uploads already.
            StoreError: the folder cannot be written.
        """
        id, upload = self._begin(user)
        try:
            with _created(upload.path) as file:
                yield UploadWriter(id, self._folder, file, lambda size: self._reserve(upload, size))
        except BaseException:
            self._forget(id)
            raise

    def read(self, user: str, id: str) -> bytes:
        """Return what a user uploaded under an id.

        Raises:
            ImageMissing: this user has no such upload, or has it no longer.
        """
        with self._lock:
            self._expire()
            upload = self._uploads.get(id)
            if upload is None or upload.user != user:
                raise ImageMissing("there is no such upload; drop the image in again")
            path, size = upload.path, upload.size
        try:
            with path.open("rb") as file:
                return file.read(size)
        except OSError:
            raise ImageMissing("the upload is gone; drop the image in again") from None

    def remove(self, user: str, id: str) -> None:
        """Remove an upload, if the user has it."""
        with self._lock:
            owned = id in self._uploads and self._uploads[id].user == user
        if owned:
            self._forget(id)

    def close(self) -> None:
        """Remove all uploads."""
        for id in list(self._uploads):
            self._forget(id)

    def _begin(self, user: str) -> tuple[str, _Upload]:
        id = f"upload-{secrets.token_hex(16)}"
        with self._lock:
            self._expire()
            if sum(one.user == user for one in self._uploads.values()) >= self.limits.user_files:
                raise ImageTooLarge(
                    f"{self.limits.user_files} uploads are still unsent; send them, or wait an hour"
                )
            upload = self._uploads[id] = _Upload(user, self._folder / id, time.monotonic())
        return id, upload

    def _reserve(self, upload: _Upload, size: int) -> None:
        """Count bytes before they are written.

        Raises:
            ImageTooLarge: the file, or the user's uploads together, are over their limit.
            StoreError: all uploads together are.
        """
        limits = self.limits
        with self._lock:
            if upload.size + size > limits.file_bytes:
                raise ImageTooLarge(
                    f"the file is larger than {limits.file_bytes} bytes; see GSCO_MAX_IMAGE_BYTES"
                )
            users = sum(one.size for one in self._uploads.values() if one.user == upload.user)
            if users + size > limits.user_bytes:
                raise ImageTooLarge(
                    f"your uploads exceed {limits.user_bytes} bytes in total; send some, wait an hour, "
                    "or set GSCO_UPLOAD_USER_BYTES"
                )
            if sum(one.size for one in self._uploads.values()) + size > limits.total_bytes:
                raise StoreError(
                    f"all uploads exceed {limits.total_bytes} bytes in total; try again later, or set "
                    "GSCO_UPLOAD_TOTAL_BYTES"
                )
            upload.size += size

    def _expire(self) -> None:
        oldest = time.monotonic() - LIFETIME
        for id in [id for id, one in self._uploads.items() if one.issued < oldest]:
            self._uploads.pop(id).path.unlink(missing_ok=True)

    def _forget(self, id: str) -> None:
        with self._lock:
            upload = self._uploads.pop(id, None)
        if upload is not None:
            with suppress(OSError):
                upload.path.unlink(missing_ok=True)


class UploadWriter:
    """Writes one upload.

    Args:
        id: what the client gets.
        folder: named in errors.
        file: where the bytes go.
        reserve: called with the number of bytes before they are written; raises where they are too many.
    """

    def __init__(self, id: str, folder: Path, file: FileIO, reserve: Callable[[int], None]) -> None:
        self.id = id
        self._folder = folder
        self._file = file
        self._reserve = reserve

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            ImageTooLarge: over a limit of the file or the user.
            StoreError: over the limit of all uploads, or the disk is full.
        """
        self._reserve(len(data))
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) or 0 :]
        except OSError as error:
            raise StoreError(f"uploads cannot be written to {self._folder}: {error.strerror}") from error


@contextmanager
def _created(path: Path) -> Generator[FileIO]:
    try:
        file = path.open("xb", buffering=0)
    except OSError as error:
        raise StoreError(f"uploads cannot be written to {path.parent}: {error.strerror}") from error
    with file:
        path.chmod(0o600)
        yield file


def _remove_stale(folder: Path) -> None:
    oldest = time.time() - LIFETIME
    for path in folder.glob("upload-*"):
        with suppress(OSError):
            if path.is_file() and path.lstat().st_mtime < oldest:
                path.unlink()
