"""Reading one picture, whatever it is, and turning whatever goes wrong into one of our errors."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PIL import Image

from ..disk import NotRegularFile, read_head
from ..errors import ImageError, ImageMissing, ImageTooLarge, ImageUnreadable, ImageUnsupported
from .decoder_warnings import quiet
from .grey import Window
from .limits import DEFAULT_LIMITS, ImageLimits
from .rasters import read_raster

T = TypeVar("T")
_HEAD = 4096
_USE = "use PNG, JPEG, TIFF, BMP, WebP, PNM, AVIF or DICOM"

_MAGIC = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"BM"), "BMP"),
    (re.compile(rb"P[1-6][\s#]"), "PPM"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "AVIF"),
    (re.compile(rb"....ftyp(hei[cxms]|hev[cmsx]|mif1|msf1)", re.DOTALL), "HEIF"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"), "JXL"),
)
_FOREIGN = (
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"GIF8"), "a GIF"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive"),
    (re.compile(rb"\x1f\x8b"), "a gzip file"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "a bare JPEG 2000 file"),
    (re.compile(rb"....ftyp", re.DOTALL), "a video"),
)


def read_image(
    source: str | Path | bytes,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    frame: int | None = None,
    window: Window | None = None,
) -> Image.Image:
    """Read one picture from a file or from a file's bytes.

    Args:
        source: path of the file, or what is in it.
        limits: checked before anything is decoded.
        frame: page, picture of an animation or DICOM frame, from 0. By default the first, and of a DICOM
            file the middle one.
        window: center and width for single-channel images, in the file's own (rescaled) values. Replaces
            the window that a DICOM file brings.

    Returns:
        An upright image of mode ``L`` or ``RGB``, 8 bit, without metadata.

    Raises:
        ImageMissing: there is no such file or frame.
        ImageUnreadable: not a file, not readable, empty, truncated, or not an image.
        ImageUnsupported: an image of a kind that is not supported.
        ImageTooLarge: over a limit.
    """
    return guarded(lambda: read_unguarded(source, limits, frame, window))


def is_image(path: str | Path) -> bool:
    """Whether a file begins like an image of a kind that is handled, whatever its name.

    Raises:
        ImageError: it cannot be read.
    """
    return _kind_of(path) is not None


def is_dicom(source: str | Path | bytes) -> bool:
    """Whether a file, or a file's bytes, are DICOM, by the first of them; False too for what is no image.

    Raises:
        ImageError: the file cannot be read.
    """
    return _kind_of(source) == "DICOM"


def _kind_of(source: str | Path | bytes) -> str | None:
    """The format of a file by its first bytes; None for what is no image."""
    try:
        return _kind(source[:_HEAD] if isinstance(source, bytes) else _content(source, _HEAD))
    except (ImageUnreadable, ImageUnsupported):
        return None


def pixel_hash(image: Image.Image) -> str:
    """Sha256, in hex, over mode, size and pixels of an image of mode ``L`` or ``RGB``.

    Raises:
        ImageUnsupported: another mode; ``read_image`` and ``ImageStore.put`` bring images into these.
    """
    if image.mode not in ("L", "RGB"):
        raise ImageUnsupported(f"only images of mode L and RGB have a pixel hash, not {image.mode}")
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height}\n".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def read_unguarded(
    source: str | Path | bytes, limits: ImageLimits, frame: int | None, window: Window | None
) -> Image.Image:
    """``read_image``, for a caller that is ``guarded`` itself."""
    data = source if isinstance(source, bytes) else _content(source, limits.max_bytes + 1)
    if not data:
        raise ImageUnreadable("the file is empty")
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"the file is larger than the limit of {limits.max_bytes} bytes")
    kind = _kind(data)
    if kind == "DICOM":
        from .dicom import read_dicom

        return read_dicom(data, limits=limits, frame=frame, window=window)
    return read_raster(data, kind, limits=limits, frame=frame, window=window)


def _content(path: str | Path, most: int) -> bytes:
    """The first bytes of a regular file."""
    try:
        return read_head(path, most)
    except NotRegularFile:
        problem, reason = ImageUnreadable, "is not a file"
    except (FileNotFoundError, NotADirectoryError):
        problem, reason = ImageMissing, "does not exist"
    except PermissionError:
        problem, reason = ImageUnreadable, "may not be read; check its permissions"
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a valid path"
        problem, reason = ImageMissing, f"cannot be opened: {why}"
    raise problem(f"{os.fspath(path)!r} {reason}")


def _kind(data: bytes) -> str:
    """``DICOM`` or Pillow's name of the format, by content."""
    # DICOM first: its preamble may hold another format's first bytes.
    if data[128:132] == b"DICM":
        return "DICOM"
    for magic, kind in _MAGIC:
        if magic.match(data):
            return kind
    for magic, name in _FOREIGN:
        if magic.match(data):
            raise ImageUnsupported(f"the file is {name}; {_USE}")
    if _begins_like_a_dataset(data):
        return "DICOM"
    raise ImageUnreadable(f"the file is not an image; {_USE}")


def _begins_like_a_dataset(data: bytes) -> bool:
    """Whether the bytes may be DICOM without preamble: an element of group 2 or 8, in any encoding."""
    explicit = data[4:6].isalpha() and data[4:6].isupper()
    if data[:2] in (b"\x02\0", b"\x08\0"):
        return len(data) > 128 and data[3] == 0 and (explicit or int.from_bytes(data[4:8], "little") <= 1024)
    return len(data) > 128 and data[:2] in (b"\0\x02", b"\0\x08") and explicit


def guarded(action: Callable[[], T]) -> T:
    """Run what decodes, and turn whatever it raises into one of our errors.

    The original is not chained to it, since its text may quote the file.
    """
    failure: ImageError
    try:
        with quiet():
            return action()
    except ImageError as error:
        failure = type(error)(*error.args)
    except Image.DecompressionBombError:
        failure = ImageTooLarge("the image claims more pixels than are ever decoded")
    except MemoryError:
        failure = ImageTooLarge("the image does not fit into memory")
    except NotImplementedError:
        failure = ImageUnsupported("the image uses a feature of its format that is not supported")
    except Exception as error:
        failure = ImageUnreadable(f"the image is damaged or truncated ({type(error).__name__})")
    raise failure
