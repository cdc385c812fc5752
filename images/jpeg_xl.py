"""JPEG XL by pillow-jxl-plugin, where it is installed (``gsco[formats]``).

The plugin decodes as soon as it opens a file, so size and depth are read from the codestream before.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO

import numpy as np
from PIL import Image

from ..errors import ImageUnreadable, ImageUnsupported
from .grey import Values

CODESTREAM = b"\xff\x0a"
CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_PLUGIN = "pillow_jxl"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_HEADER = 64
_MAX_PIXELS = 64_000_000


@dataclass(frozen=True)
class JpegXLHeader:
    """Width, height and bits per sample of a JPEG XL image."""

    width: int
    height: int
    precision: int


class _Bits:
    """Numbers of a few bits each, lowest bit first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ImageUnreadable("the JPEG XL image is truncated")
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        return taken

    def one_of(self, *widths: int) -> int:
        return self.take(widths[self.take(2)])


def jpeg_xl_header(data: bytes) -> JpegXLHeader:
    """Read size and depth (ISO/IEC 18181-1, D.2 and D.3).

    Raises:
        ImageUnreadable: there is no JPEG XL header.
        ImageUnsupported: the samples are floats.
    """
    bits = _Bits(_codestream(data))
    width, height = _size(bits)
    if bits.take(1):  # all metadata at their defaults
        return JpegXLHeader(width, height, 8)
    if bits.take(1):
        bits.take(3)  # orientation
        if bits.take(1):
            _size(bits)  # intrinsic size
        if bits.take(1) or bits.take(1):
            raise ImageUnsupported("JPEG XL images with a preview or an animation are not supported")
    if bits.take(1):
        raise ImageUnsupported("JPEG XL images of floating point numbers are not supported")
    choice = bits.take(2)
    return JpegXLHeader(width, height, (8, 10, 12)[choice] if choice < 3 else 1 + bits.take(6))


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)
    height = 8 * (1 + bits.take(5)) if small else 1 + bits.one_of(9, 13, 18, 30)
    if ratio := bits.take(3):
        across, down = _RATIOS[ratio - 1]
        return height * across // down, height
    return (8 * (1 + bits.take(5)) if small else 1 + bits.one_of(9, 13, 18, 30)), height


def _codestream(data: bytes) -> bytes:
    """The first bytes of the codestream, behind its two bytes of signature."""
    if data.startswith(CODESTREAM):
        return data[2 : 2 + _HEADER]
    position = len(CONTAINER) if data.startswith(CONTAINER) else len(data)
    while position + 8 <= len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        start = position + 8
        if length == 1:
            length, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        start += 4 if kind == b"jxlp" else 0
        if kind in (b"jxlc", b"jxlp") and data[start : start + 2] == CODESTREAM:
            return data[start + 2 : start + 2 + _HEADER]
        if length < 8:
            break
        position += length
    raise ImageUnreadable("the JPEG XL image has no codestream")


def jpeg_xl_values(data: bytes, name: str) -> tuple[Values, int]:
    """Decode a frame; values keep the depth that the codestream states.

    Args:
        data: the codestream, bare or in its container.
        name: of the transfer syntax, for messages.

    Returns:
        uint8 or uint16 of shape (h, w) or (h, w, 3), and the bits per sample.

    Raises:
        ImageUnsupported: the plugin is not installed, or the image has transparency.
        ImageUnreadable: it is damaged.
    """
    header = jpeg_xl_header(data)
    if header.width * header.height > _MAX_PIXELS:
        raise ImageUnreadable("the DICOM header and the compressed frame differ in size")
    open_plugin(name)
    with Image.open(BytesIO(data), formats=["JXL"]) as image:
        image.load()
        values = np.asarray(image)
    if (values.ndim == 3 and values.shape[2] != 3) or image.mode not in ("L", "I;16", "RGB"):
        raise ImageUnsupported(f"{name} images of mode {image.mode} are not supported")
    if values.dtype == np.uint8 and header.precision == 8:
        return values, 8
    # libjxl spreads the samples over the container's whole range.
    white, whole = 2**header.precision - 1, np.iinfo(values.dtype).max
    deep = np.rint(values.astype(np.float64) * white / whole)
    return deep.astype(np.uint8 if header.precision <= 8 else np.uint16), header.precision


def open_plugin(name: str) -> None:
    """Register the plugin with Pillow.

    Raises:
        ImageUnsupported: it is not installed.
    """
    if find_spec(_PLUGIN) is None:
        raise ImageUnsupported(
            f"no decoder for {name} is installed; install pillow-jxl-plugin, or gsco with [formats]"
        )
    import_module(_PLUGIN)
