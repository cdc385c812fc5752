"""Lookup tables of DICOM files: grey (modality, VOI), palettes and segmented palettes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ..errors import ImageUnreadable, ImageUnsupported
from .grey import Values

COLOURS = ("Red", "Green", "Blue")
PALETTE_TAGS = tuple(
    name
    for colour in COLOURS
    for name in (
        f"{colour}PaletteColorLookupTableDescriptor",
        f"{colour}PaletteColorLookupTableData",
        f"Segmented{colour}PaletteColorLookupTableData",
    )
)
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2


@dataclass(frozen=True)
class LookupTable:
    """A table from stored values to outputs."""

    first: int
    """Stored value that the first entry is for."""
    entries: npt.NDArray[np.uint16]
    depth: int
    """Bits per entry, 8 to 16."""

    def __call__(self, values: Values) -> Values:
        """Map values; those before the table take its first entry and those behind it its last."""
        return self.entries[np.clip(values.astype(np.int64) - self.first, 0, len(self.entries) - 1)]


def lookup_table(dataset: Dataset, descriptor: object, data: object) -> LookupTable:
    """Read a table.

    Args:
        dataset: for its byte order and the sign of its values.
        descriptor: number of entries (0 for 65536), first value mapped, bits per entry.
        data: the entries, as numbers or bytes.

    Raises:
        ImageUnreadable: it is empty or damaged.
    """
    order = ">" if dataset.original_encoding[1] is False else "<"
    count, first, depth = _descriptor(dataset, descriptor, order)
    if isinstance(data, bytes):
        data = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2" if len(data) >= 2 * count else np.uint8)
    entries = np.atleast_1d(np.asarray([] if data is None else data, np.int64))[:count] & 0xFFFF
    return _checked(first, entries, depth)


def palette(dataset: Dataset, stored: Values) -> npt.NDArray[np.uint8]:
    """Colours (h, w, 3) of stored indices (h, w).

    Raises:
        ImageUnsupported: the file has no palette of its own.
        ImageUnreadable: the palette is damaged.
    """
    channels = []
    for colour in COLOURS:
        table = _colour_table(dataset, colour)
        # Some writers say 16 bits and store 8.
        white = 255 if table.depth == 8 or table.entries.max() < 256 else 2**table.depth - 1
        shades = np.rint(table.entries * (255.0 / white)).clip(0, 255).astype(np.uint8)
        channels.append(shades[np.clip(stored.astype(np.int64) - table.first, 0, len(shades) - 1)])
    return np.stack(channels, axis=-1)


def _colour_table(dataset: Dataset, colour: str) -> LookupTable:
    name = f"{colour}PaletteColorLookupTable"
    segmented = f"Segmented{name}Data"
    if f"{name}Descriptor" not in dataset or not {f"{name}Data", segmented} & set(dataset.dir()):
        raise ImageUnsupported(
            f"the DICOM file has no {colour.lower()} palette, and supplemental and well-known palettes are "
            "not handled; convert the file to RGB"
        )
    descriptor = dataset[f"{name}Descriptor"].value
    if f"{name}Data" in dataset:
        return lookup_table(dataset, descriptor, dataset[f"{name}Data"].value)
    order = ">" if dataset.original_encoding[1] is False else "<"
    count, first, depth = _descriptor(dataset, descriptor, order)
    words = _words(dataset[segmented].value, order, depth)
    return _checked(first, _expanded(words, count, wide=depth > 8), depth)


def _descriptor(dataset: Dataset, descriptor: object, order: str) -> tuple[int, int, int]:
    if isinstance(descriptor, bytes):
        descriptor = np.frombuffer(descriptor[: len(descriptor) // 2 * 2], f"{order}u2")
    if not isinstance(descriptor, Sequence | np.ndarray) or len(descriptor) != 3:
        raise ImageUnreadable("the DICOM file has a lookup table without a valid descriptor")
    count, first, depth = (int(number) for number in descriptor)
    if first > 0x7FFF and dataset.get("PixelRepresentation") == 1:
        first -= 2**16
    return count & 0xFFFF or 2**16, first, depth


def _checked(first: int, entries: npt.NDArray[np.int64], depth: int) -> LookupTable:
    if not entries.size or depth not in range(8, 17):
        raise ImageUnreadable("the DICOM file has a lookup table that is damaged")
    return LookupTable(first, entries.astype(np.uint16), depth)


def _words(data: bytes | Sequence[int], order: str, depth: int) -> list[int]:
    """Entries of a segmented table: bytes where they have 8 bits, else words."""
    if isinstance(data, bytes):
        wide = depth > 8
        return np.frombuffer(
            data[: len(data) // 2 * 2] if wide else data, f"{order}u2" if wide else "u1"
        ).tolist()
    return [int(number) for number in data]


def _expanded(words: list[int], limit: int, *, wide: bool) -> npt.NDArray[np.int64]:
    """Expand a segmented table (PS3.3 C.7.9.2), never beyond its declared number of entries.

    Args:
        words: opcodes, lengths and values.
        limit: entries that the descriptor declares.
        wide: whether the words have 16 bits; an indirect segment's offset is then two words, not four.

    Raises:
        ImageUnreadable: a segment is cut off, refers to another indirect one, or has an unknown code.
    """
    entries: list[int] = []
    position = 0
    while position + 2 < len(words) and len(entries) < limit:
        code, length = words[position], words[position + 1]
        if code != _INDIRECT:
            position = _append_segment(entries, words, position)
            continue
        offset, position = _indirect_offset(words, position + 2, wide)
        for _ in range(length):
            if offset + 2 >= len(words) or words[offset] == _INDIRECT or len(entries) >= limit:
                break
            offset = _append_segment(entries, words, offset)
    return np.asarray(entries[:limit], np.int64)


def _append_segment(entries: list[int], words: list[int], position: int) -> int:
    """Append a discrete or linear segment; return where the next one begins."""
    code, length = words[position], words[position + 1]
    if code == _DISCRETE and position + 2 + length <= len(words):
        entries.extend(words[position + 2 : position + 2 + length])
        return position + 2 + length
    if code == _LINEAR and entries:
        start, end = entries[-1], words[position + 2]
        entries.extend(np.rint(np.linspace(start, end, length + 1)[1:]).astype(int).tolist())
        return position + 3
    raise ImageUnreadable("the DICOM file has a segmented palette that is damaged")


def _indirect_offset(words: list[int], position: int, wide: bool) -> tuple[int, int]:
    """The word that an indirect segment points to, by bytes from the table's start, and what follows it."""
    parts = words[position : position + (2 if wide else 4)]
    if len(parts) < (2 if wide else 4):
        raise ImageUnreadable("the DICOM file has a segmented palette that is damaged")
    bits = 16 if wide else 8
    place = sum(part << (bits * number) for number, part in enumerate(parts))
    return place // (2 if wide else 1), position + len(parts)
