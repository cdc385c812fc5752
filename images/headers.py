"""What the header of a file claims, read without decoding a pixel and without trusting a number."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO

from ..errors import ImageTooLarge, ImageUnreadable

_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_TIFF_TAGS = 200_000
_TIFF_SLACK = 16 * 2**20
_ORIENTATION = 0x0112
_READS = 500_000
"""About ten times what an enhanced DICOM series of a thousand frames needs."""


def tiff_pages(data: bytes, limit: int) -> int:
    """Count the pages of a TIFF or BigTIFF file.

    Args:
        data: the whole file.
        limit: the largest number of pages that is accepted.

    Raises:
        ImageTooLarge: more pages than the limit, or tags that together are larger than the file. Tags may
            point anywhere, so a small file can name the same megabyte thousands of times.
        ImageUnreadable: the first directory is not there.
    """
    pages = tags = content = 0
    for entries in _directories(data):
        pages += 1
        tags += len(entries)
        content += sum(min(_TIFF_SIZES.get(kind, 0) * count, len(data)) for _, kind, count, _ in entries)
        if pages > limit:
            raise ImageTooLarge(f"the TIFF file has more than {limit} pages")
        if tags > _TIFF_TAGS or content > 2 * len(data) + _TIFF_SLACK:
            raise ImageTooLarge("the TIFF file's tags claim more content than the file has")
    if not pages:
        raise ImageUnreadable("the TIFF file is truncated: it has no image directory")
    return pages


def webp_canvas(data: bytes) -> tuple[int, int] | None:
    """Width and height of the canvas that an extended WebP file claims; None for a simple one.

    Pillow's decoder sets the canvas aside as it opens the file, before anybody can look at the size.
    """
    if data[12:16] != b"VP8X" or len(data) < 30:
        return None
    return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")


def exif_orientation(exif: bytes) -> int:
    """Read the orientation, 1 to 8, from an EXIF block; 1 (upright) if it is absent or damaged."""
    exif = exif.removeprefix(b"Exif\0\0")
    for tag, kind, count, value in next(_directories(exif), []):
        if (tag, kind, count) == (_ORIENTATION, 3, 1):
            orientation = int.from_bytes(value[:2], "little" if exif[:2] == b"II" else "big")
            return orientation if 1 <= orientation <= 8 else 1
    return 1


def _directories(data: bytes) -> Iterator[list[tuple[int, int, int, bytes]]]:
    """Yield each directory as (tag, type, count, inline value); stop where the chain breaks or loops."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    number = struct.Struct(order + ("Q" if big else "H"))
    address = struct.Struct(order + ("Q" if big else "I"))
    seen: set[int] = set()
    try:
        offset: int = address.unpack_from(data, 8 if big else 4)[0]
        while offset and offset not in seen:
            seen.add(offset)
            first = offset + number.size
            end = first + entry.size * number.unpack_from(data, offset)[0]
            if end > len(data):
                return
            yield list(entry.iter_unpack(data[first:end]))
            offset = address.unpack_from(data, end)[0]
    except struct.error:
        return


class ReadBudgetBytesIO(BytesIO):
    """BytesIO with a read budget, against crafted files that make a parser loop.

    Parsers read once or twice per element, segment or chunk, and some of them byte by byte.

    Args:
        data: the whole file.
        what: message of the error.
    """

    left = _READS

    def __init__(self, data: bytes, what: str = "the DICOM header has too many elements") -> None:
        super().__init__(data)
        self.what = what

    def read(self, size: int | None = -1, /) -> bytes:
        """Read like ``BytesIO``.

        Raises:
            ImageTooLarge: the last time was the last time.
        """
        self.left -= 1
        if self.left < 0:
            raise ImageTooLarge(self.what)
        return super().read(size)
