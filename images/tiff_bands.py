"""Large TIFF pages, decoded and reduced band by band: a band is a few rows of tiles or strips.

libtiff decodes a page as a whole. So each band is given to it as a small file of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from ..errors import ImageUnreadable
from .memory import DECODING, decoding_cost
from .scale import REDUCIBLE

_WIDTH, _HEIGHT, _COMPRESSION, _ORIENTATION = 256, 257, 259, 274
_STRIPS, _STRIP_ROWS, _STRIP_BYTES = 273, 278, 279
_PLANAR = 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_OLD_JPEG = 6
"""Its tables lie anywhere in the file."""
_CODING = (258, 259, 262, 266, 277, 284, 317, 322, 323, 338, 339, 347, 529, 530, 532)
"""Tags that say how pixels are coded."""
_ROWS = 256
_LONG = 4


@dataclass(frozen=True)
class _Blocks:
    """The tiles or strips of a page, row by row."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    across: int
    rows: int
    """Height of one of them."""
    tiled: bool


def reduced_page(image: TiffImageFile, data: bytes, factor: int) -> Image.Image | None:
    """Average blocks of ``factor`` × ``factor`` pixels of the current page, as ``AbilityImage.reduce`` does.

    Args:
        image: opened and not loaded.
        data: the whole file.
        factor: at least 2.

    Returns:
        The reduced page; None where it must be decoded as a whole: one strip, planes one by one, pixels that
        cannot be averaged as they are, an orientation, or blocks that do not fit the page.
    """
    blocks = _blocks(image, len(data))
    if blocks is None:
        return None
    # Bands begin at a multiple of the factor.
    step = blocks.rows * factor // math.gcd(blocks.rows, factor)
    rows = step * math.ceil(_ROWS / step)
    if rows >= image.height:
        return None
    page = Image.new(image.mode, (math.ceil(image.width / factor), math.ceil(image.height / factor)))
    with DECODING.reserved(decoding_cost(*page.size) + decoding_cost(image.width, rows)):
        for top, band in _bands(image, data, blocks, rows):
            page.paste(band.reduce(factor), (0, top // factor))
    return page


def _blocks(image: TiffImageFile, length: int) -> _Blocks | None:
    tags = image.tag_v2
    whole = tags.get(_PLANAR, 1) != 1 or tags.get(_ORIENTATION, 1) != 1 or tags.get(_COMPRESSION) == _OLD_JPEG
    if whole or image.mode not in REDUCIBLE:
        return None
    tiled = _TILES in tags
    offsets, sizes = (tags.get(tag) for tag in ((_TILES, _TILE_BYTES) if tiled else (_STRIPS, _STRIP_BYTES)))
    width = tags.get(_TILE_WIDTH, 0) if tiled else image.width
    rows = tags.get(_TILE_HEIGHT, 0) if tiled else tags.get(_STRIP_ROWS, image.height)
    if not (offsets and sizes and width and rows):
        return None
    blocks = _Blocks(
        tuple(offsets), tuple(sizes), math.ceil(image.width / width), min(rows, image.height), tiled
    )
    count = blocks.across * math.ceil(image.height / blocks.rows)
    # Blocks may overlap: together they must not be larger than the file.
    return blocks if len(offsets) == len(sizes) == count and sum(sizes) <= length else None


def _bands(
    image: TiffImageFile, data: bytes, blocks: _Blocks, rows: int
) -> Iterator[tuple[int, Image.Image]]:
    """Yield the top row of each band, and its pixels."""
    for top in range(0, image.height, rows):
        first = top // blocks.rows * blocks.across
        chosen = slice(first, first + rows // blocks.rows * blocks.across)
        file = _band_file(image, data, blocks, chosen, min(rows, image.height - top))
        with Image.open(BytesIO(file), formats=["TIFF"]) as band:
            band.load()
            if band.mode != image.mode:
                raise ImageUnreadable("the TIFF file is damaged: its parts differ in their pixels")
            yield top, band


def _band_file(image: TiffImageFile, data: bytes, blocks: _Blocks, chosen: slice, rows: int) -> bytes:
    """A TIFF file of some blocks."""
    parts = [
        data[offset : offset + size]
        for offset, size in zip(blocks.offsets[chosen], blocks.sizes[chosen], strict=True)
    ]
    *places, _ = accumulate(map(len, parts), initial=0)
    directory = ImageFileDirectory_v2(prefix=image.tag_v2.prefix)
    for tag in _CODING:
        if tag in image.tag_v2:
            directory.tagtype[tag] = image.tag_v2.tagtype[tag]
            directory[tag] = image.tag_v2[tag]
    offsets, sizes = (_TILES, _TILE_BYTES) if blocks.tiled else (_STRIPS, _STRIP_BYTES)
    numbers = {_WIDTH: image.width, _HEIGHT: rows, offsets: tuple(places), sizes: tuple(map(len, parts))}
    if not blocks.tiled:
        numbers[_STRIP_ROWS] = blocks.rows
    for tag, value in numbers.items():
        directory.tagtype[tag] = _LONG
        directory[tag] = value
    order = "little" if image.tag_v2.prefix == b"II" else "big"
    header = image.tag_v2.prefix + (42).to_bytes(2, order) + (8).to_bytes(4, order)
    start = 8 + len(directory.tobytes(8))
    if blocks.tiled:  # Pillow itself adds the start to the offsets of strips
        directory[offsets] = tuple(start + place for place in places)
    return header + directory.tobytes(8) + b"".join(parts)
