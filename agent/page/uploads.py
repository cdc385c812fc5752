"""What visitors upload: read into the image store within its limits, and the upload is removed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from ...errors import ImageError, ImageMissing, ImageTooLarge
from ...images import is_dicom, read_image
from ..reports.pictures import ReportImage, picture

if TYPE_CHECKING:
    from ...case import ImageRef
    from ...images import ImageStore
    from ...images.grey import Window
    from .upload_store import UploadStore

MOST = 8
"""Images in one message."""
PRESETS: dict[str, Window | None] = {
    "as the file says": None,
    "CT lung": (-600.0, 1500.0),
    "CT soft tissue": (40.0, 400.0),
    "CT bone": (400.0, 1800.0),
    "CT brain": (40.0, 80.0),
}
"""Windows that readers know by name: center and width, in Hounsfield units."""


def stored(
    store: ImageStore,
    uploads: UploadStore,
    user: str,
    ids: Sequence[str],
    center: float | None = None,
    width: float | None = None,
) -> list[ImageRef]:
    """Put a user's uploads into the image store; the window is for those that are DICOM.

    Raises:
        ImageError: one of them cannot be used, or they are too many. None is then kept as an upload.
    """
    try:
        if len(ids) > MOST:
            raise ImageTooLarge(f"a message may have at most {MOST} images, not {len(ids)}")
        found = (uploads.read(user, id) for id in ids)
        return [store.put(one, window=window_of(center, width) if is_dicom(one) else None) for one in found]
    finally:
        for id in ids:
            uploads.remove(user, id)


def window_of(center: float | None, width: float | None) -> Window | None:
    """The window that two numbers of the page are; two that are left empty arrive as 0.

    Raises:
        ImageError: only one of them is given, or the width is none.
    """
    if not center and not width:
        return None
    if center is None or width is None:
        raise ImageError("a window is a center and a width: give both, or neither for the file's own")
    if width < 1:
        raise ImageError(f"a window's width is at least 1, not {width:g}")
    return (float(center), float(width))


def preview(
    store: ImageStore,
    uploads: UploadStore,
    user: str,
    ids: Sequence[str],
    center: float | None = None,
    width: float | None = None,
) -> ReportImage | None:
    """How the first of a user's uploads that is DICOM looks through a window; None where there is none.

    Raises:
        ImageError: it cannot be used, or the window is none.
    """
    for id in ids[:MOST]:
        with suppress(ImageMissing):  # sent or expired meanwhile
            data = uploads.read(user, id)
            if is_dicom(data):
                window = window_of(center, width)
                return picture(read_image(data, limits=store.limits, window=window), "Preview")
    return None
