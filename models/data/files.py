"""The files of a folder: which are images, which are masks, and where an image that a table names lies."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ...errors import ImageError
from ...images import is_image
from .rows import DatasetLayout

IMAGE_SUFFIXES = frozenset(
    {
        ".avif",
        ".bmp",
        ".dcm",
        ".dicom",
        ".heic",
        ".ima",
        ".jfif",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".jxl",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    }
)
"""Endings that are taken for images without a look at the content."""
_OTHERS = frozenset(
    {
        ".csv",
        ".db",
        ".doc",
        ".docx",
        ".gz",
        ".htm",
        ".html",
        ".ini",
        ".ipynb",
        ".json",
        ".jsonl",
        ".log",
        ".md",
        ".npy",
        ".npz",
        ".parquet",
        ".pdf",
        ".pickle",
        ".pkl",
        ".py",
        ".rst",
        ".tar",
        ".toml",
        ".tsv",
        ".txt",
        ".xls",
        ".xlsx",
        ".xml",
        ".yaml",
        ".yml",
        ".zip",
    }
)
_JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"})
_MASK_FOLDER = re.compile(
    r"^(masks?|segmentations?|seg|ground[_ -]?truths?|gt|annotations?|labels?|overlays?)([_ -]?\d+)?$", re.I
)
_MASK_NAME = re.compile(
    r"(?:[_\- .]+(?:mask|seg|segmentation|gt|groundtruth|annotation|label|overlay)(?:[_\- ]?\d+)?)+$", re.I
)

_UPLOAD = re.compile(r"^[0-9a-f]{8}-")
"""Label Studio puts this before the name of an uploaded file."""

MASKS = "masks of other images"
OTHERS = "no images, by their ending"
UNKNOWN = "no images, by their content"
JUNK = "left behind by an archive or an operating system"


def is_junk(name: str) -> bool:
    """Whether a file or folder is what archives and operating systems leave behind."""
    return name.startswith(".") or name.casefold() in _JUNK


def image_files(folder: Path, layout: DatasetLayout) -> list[PurePosixPath]:
    """The images of a folder and everything beneath it, sorted, relative to it; masks are left out.

    A file whose ending says nothing is an image where its first bytes say so.
    """
    found: list[PurePosixPath] = []
    for path in sorted(folder.rglob("*")):
        relative = PurePosixPath(path.relative_to(folder).as_posix())
        if not path.is_file():
            continue
        if any(is_junk(part) for part in relative.parts):
            if not any(part.startswith(".") for part in relative.parts[:-1]):
                layout.leave_out(JUNK, str(relative))
            continue
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES or (suffix not in _OTHERS and _content_is_image(path)):
            found.append(relative)
        else:
            layout.leave_out(OTHERS if suffix in _OTHERS else UNKNOWN, str(relative))
    masks = _masks(found)
    for relative in found:
        if relative in masks:
            layout.leave_out(MASKS, str(relative))
    return [relative for relative in found if relative not in masks]


def _content_is_image(path: Path) -> bool:
    try:
        return path.name.upper() != "DICOMDIR" and is_image(path)
    except ImageError:
        return False


def _masks(files: Sequence[PurePosixPath]) -> set[PurePosixPath]:
    """Masks, by a word at the end of the name or by a folder, beside the images that they belong to.

    A folder or an ending alone says little (a class may be called ``mask``): the image must be there too.
    """
    stems = {(file.parent, file.stem.casefold()) for file in files}
    found = {
        file
        for file in files
        if (bare := _MASK_NAME.sub("", file.stem)) != file.stem and (file.parent, bare.casefold()) in stems
    }
    folders: dict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
    for file in files:
        for place in file.parents:
            if _MASK_FOLDER.match(place.name):
                folders[place].append(file)
    for place, inside in folders.items():
        beside = {_bare(file) for file in files if place.parent in file.parents and place not in file.parents}
        matched = sum(_bare(file) in beside for file in inside)
        if 2 * matched > len(inside):
            found.update(inside)
    return found


def _bare(file: PurePosixPath) -> str:
    return _MASK_NAME.sub("", file.stem).casefold()


class ImageFinder:
    """Finds the images that a table or an export names, as its author saw them.

    Args:
        folder: that names are relative to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, list[Path]] | None = None
        self.by_search = 0
        """How many were found by their name alone, in another folder than was said."""

    def find(self, name: str) -> str | None:
        """The path of an image as ``folder / path`` takes it; None if it is missing.

        Raises:
            ValueError: several files bear the name.
        """
        for text in dict.fromkeys((name, name.replace("\\", "/"))):
            try:
                if text and (self._folder / text).is_file():
                    return text
            except (OSError, ValueError):
                return None
        wanted = PurePosixPath(re.sub(r"^[A-Za-z]:", "", name.replace("\\", "/")))
        if not wanted.name:
            return None
        found = self._search(wanted) or self._search(wanted.with_name(_UPLOAD.sub("", wanted.name) or "-"))
        if len(found) > 1:
            raise ValueError(", ".join(path.relative_to(self._folder).as_posix() for path in found[:3]))
        if not found:
            return None
        self.by_search += 1
        return found[0].relative_to(self._folder).as_posix()

    def _search(self, wanted: PurePosixPath) -> list[Path]:
        if self._names is None:
            self._names = defaultdict(list)
            for relative in image_files(self._folder, DatasetLayout([], "")):
                path = self._folder / relative
                self._names[path.name.casefold()].append(path)
                if path.stem != path.name:
                    self._names[path.stem.casefold()].append(path)
        found = self._names.get(wanted.name.casefold(), [])
        # Of several, those whose folders agree best with what was said.
        for count in range(len(wanted.parts), 1, -1):
            tail = [part.casefold() for part in wanted.parts[-count:-1]]
            agreeing = [path for path in found if [p.casefold() for p in path.parts[-count:-1]] == tail]
            if agreeing:
                return agreeing
        return found
