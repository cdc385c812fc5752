"""What visitors upload: read into the image store within its limits, and the upload is removed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ImageError, ImageTooLarge
from ...images import is_dicom, read_image
from ..reports.pictures import Picture, picture

if TYPE_CHECKING:
    from ...case import ImageRef
    from ...images import ImageStore
    from ...images.grey import Window

MOST = 8
"""Images in one message."""
PRESETS: dict[str, Window | None] = {
    "as the file says": None, "CT lung": (-600.0, 1500.0), "CT soft tissue": (40.0, 400.0),
    "CT bone": (400.0, 1800.0), "CT brain": (40.0, 80.0),
}  # fmt: skip
"""Windows that readers know by name: center and width, in Hounsfield units."""


def stored(store: ImageStore, files: Sequence[str], window: Window | None) -> list[ImageRef]:
    """Put uploads into the store; the window is for those that are DICOM.

    Raises:
        ImageError: one of them cannot be used, or they are too many. None is then kept back as an upload.
    """
    try:
        if len(files) > MOST:
            raise ImageTooLarge(f"one message takes {MOST} images, and these are {len(files)}")
        return [store.put(Path(file), window=window if is_dicom(file) else None) for file in files]
    finally:
        for file in files:
            Path(file).unlink(missing_ok=True)


def window_of(center: float | None, width: float | None) -> Window | None:
    """The window that two numbers of the page are.

    Raises:
        ImageError: only one of them is given, or the width is none.
    """
    if center is None and width is None:
        return None
    if center is None or width is None:
        raise ImageError("a window is a center and a width: give both, or neither for the file's own")
    if width < 1:
        raise ImageError(f"a window's width is at least 1, not {width:g}")
    return (float(center), float(width))


def first_dicom(files: Sequence[str]) -> str | None:
    """The first upload that is DICOM; None where none is."""
    return next((file for file in files if os.path.exists(file) and is_dicom(file)), None)  # noqa: PTH110


def preview(store: ImageStore, file: str, window: Window | None) -> Picture:
    """How an upload looks through a window.

    Raises:
        ImageError: it cannot be used.
    """
    return picture(read_image(Path(file), limits=store.limits, window=window), "As it will be looked at")
