"""Decoding large images at a reduced scale."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

REDUCIBLE = frozenset({"L", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
"""Modes whose pixels can be averaged as they are."""


def reduction(width: int, height: int, most: int) -> int:
    """The smallest whole factor that brings an image to at most so many pixels.

    Example:
        >>> reduction(6000, 8000, 16_000_000)
        2
    """
    return max(1, math.ceil(math.sqrt(width * height / most)))


def draft(image: Image.Image, most: int) -> None:
    """Let the decoder of a JPEG file reduce it by 2, 4 or 8, as far as ``most`` pixels ask for.

    TIFF files see ``tiff_bands``; other formats are decoded as a whole and ``reduced`` afterwards.
    """
    factor = reduction(image.width, image.height, most)
    if factor > 1:
        image.draft(None, (math.ceil(image.width / factor), math.ceil(image.height / factor)))


def reduced(image: Image.Image, most: int) -> Image.Image:
    """Average blocks of pixels until at most ``most`` are left.

    An image whose pixels cannot be averaged as they are (a palette, deep grey) is returned as it is; it is
    reduced once it is grey or colour of 8 bit.
    """
    factor = reduction(image.width, image.height, most)
    return image.reduce(factor) if factor > 1 and image.mode in REDUCIBLE else image
