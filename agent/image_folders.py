"""Folders of images that an operator opens to an agent: files below them, and no others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import ConfigurationError, ImageMissing

LISTED = 500
"""So many files are listed at once."""
_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom", ".pgm", ".ppm", ".pnm", ""}
)
"""Endings of image files; DICOM files often have none."""


class ImageFolders:
    """Finds files by their path below one of the folders.

    Args:
        folders: that are open; none opens nothing.

    Raises:
        ConfigurationError: one of them is no folder.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise ConfigurationError(f"--images names {folder}, which is not a folder")
        self.folders = tuple(folder.resolve() for folder in folders)

    def file(self, path: str) -> Path:
        """Return the file that a path names: below a folder, or absolute. Links that lead out are refused.

        Raises:
            ImageMissing: there is no such file below the folders.
        """
        for folder in self.folders:
            try:
                found = (folder / path).resolve(strict=True)
            except (OSError, ValueError):
                continue
            if found.is_relative_to(folder) and found.is_file():
                return found
        raise ImageMissing("there is no such file in the open folders; list_images lists the files")

    def listed(self, below: str = "") -> list[str]:
        """Return the paths of image files, at most ``LISTED``, in order; hidden files are left out.

        Args:
            below: only files whose path begins so.
        """
        found: list[str] = []
        for folder in self.folders:
            for path in _files(folder):
                name = path.relative_to(folder).as_posix()
                if name.startswith(below):
                    found.append(name)
                    if len(found) == LISTED:
                        return found
        return found


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES:
                yield Path(place, name)
