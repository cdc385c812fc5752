"""How stored DICOM values are shown: grey by rescale and window, colour by palette.

Grey values go through the Modality LUT or rescale, then through what of this is there first:

1. the caller's window; it takes the file's VOI function, ``LINEAR`` where there is none;
2. the file's VOI LUT sequence (the first LUT);
3. the file's window (the first of several); one of impossible width counts as absent;
4. the whole range of the stored bits, for unsigned values of up to 8 bits without rescale;
5. the frame's own range, smallest value black and largest white, without its padding value.

``MONOCHROME1`` is inverted at the end. Enhanced objects bring rescale and window per frame.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_sequence

from ..errors import ImageUnreadable, ImageUnsupported
from .grey import Grey, Window, narrow, rendered, stretched, windowed
from .headers import Metered

Values = npt.NDArray[Any]
Rule = Callable[[Values], Values]

_COLOURS = ("Red", "Green", "Blue")
TAGS = (
    "PixelPaddingValue", "PixelPaddingRangeLimit", "ModalityLUTSequence", "RescaleIntercept", "RescaleSlope",
    "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    *(f"{colour}PaletteColorLookupTable{part}" for colour in _COLOURS for part in ("Descriptor", "Data")),
)  # fmt: skip
"""Keywords of the tags that are looked at here."""


def displayed(dataset: Dataset, index: int, stored: Values, photometric: str, window: Window | None) -> Grey:
    """Turn the stored values of a frame into 8 bit.

    Args:
        dataset: where rescale, window and palette stand.
        index: number of the frame.
        stored: shape (h, w) or (h, w, 3), any integer or float type.
        photometric: how to read the values, once decoded.
        window: the caller's own center and width, for grey values.

    Returns:
        Grey (h, w) or colours (h, w, 3).

    Raises:
        ImageUnsupported: colours of another kind, or a window for colours.
        ImageUnreadable: a lookup table or a number is damaged.
    """
    bits = int(dataset.get("BitsStored") or 8 * stored.dtype.itemsize)
    if photometric in ("MONOCHROME1", "MONOCHROME2") and stored.ndim == 2:
        grey = rendered(stored, _grey_rule(dataset, index, stored, bits, window))
        return 255 - grey if photometric == "MONOCHROME1" else grey
    if window is not None:
        raise ImageUnsupported("a window was given, but the image is in colour; leave the window out")
    if photometric == "PALETTE COLOR" and stored.ndim == 2:
        return _palette_colours(dataset, stored)
    if photometric == "RGB" and stored.shape[2:] == (3,):
        return _shallow(stored, bits)
    raise ImageUnsupported("this DICOM colour space is not handled; convert the file to RGB or MONOCHROME2")


def _grey_rule(dataset: Dataset, index: int, stored: Values, bits: int, window: Window | None) -> Rule:
    """From stored values to shares of white."""
    rescale, voi = _macros(dataset, index)
    modality = _modality(dataset, rescale)
    function = str(voi.get("VOILUTFunction") or "LINEAR").upper()
    tables = _items(dataset, "VOILUTSequence")
    if window is None and tables:
        first, table, depth = _lut(dataset, tables[0])
        return lambda v: np.clip(_looked_up(np.rint(modality(v)), first, table) / (2**depth - 1), 0, 1)
    if chosen := window or _window(voi, function):
        return lambda v: windowed(modality(v), *chosen, function)
    if modality is _unchanged and bits <= 8 and stored.dtype.kind == "u":
        return lambda v: np.clip(v / (2**bits - 1), 0, 1)
    low, high = _range(dataset, modality, stored)
    return lambda v: stretched(modality(v), low, high)


def _macros(dataset: Dataset, index: int) -> tuple[Dataset, Dataset]:
    """Where rescale and window stand: with the frame, with all frames, or (not enhanced) in the data set."""
    found = [dataset, dataset]
    for groups, position in (("Shared", 0), ("PerFrame", index)):
        items = _items(dataset, f"{groups}FunctionalGroupsSequence")
        if position < len(items):
            for number, macro in enumerate(("PixelValueTransformationSequence", "FrameVOILUTSequence")):
                found[number] = next(iter(_items(items[position], macro)), found[number])
    return found[0], found[1]


def _items(dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    """The items of a sequence, if any, parsed within the same bound as a whole data set."""
    raw = dataset.get_item(keyword) if keyword in dataset else None
    if not (isinstance(raw, RawDataElement) and isinstance(raw.value, bytes)):
        return dataset.get(keyword) or []
    stream, length = Metered(raw.value), len(raw.value)
    return read_sequence(stream, raw.is_implicit_VR, raw.is_little_endian, length, default_encoding)


def _modality(dataset: Dataset, rescale: Dataset) -> Rule:
    """Modality LUT or rescale."""
    if tables := _items(dataset, "ModalityLUTSequence"):
        first, table, _ = _lut(dataset, tables[0])
        return lambda v: _looked_up(v, first, table)
    slope, intercept = _first(rescale.get("RescaleSlope")), _first(rescale.get("RescaleIntercept"))
    if slope is None or intercept is None or (slope, intercept) == (1.0, 0.0):
        return _unchanged
    if not np.isfinite([slope, intercept]).all():
        raise ImageUnreadable("the DICOM header has no valid rescale")
    return lambda v: v.astype(np.float64) * slope + intercept


def _unchanged(values: Values) -> Values:
    return values


def _window(voi: Dataset, function: str) -> Window | None:
    center, width = _first(voi.get("WindowCenter")), _first(voi.get("WindowWidth"))
    if center is None or width is None or not np.isfinite([center, width]).all():
        return None
    return (center, width) if width >= 1 or (width > 0 and function != "LINEAR") else None


def _first(value: Any) -> float | None:
    """The first of the values of a decimal string; None where there is none."""
    first = next(iter(value), None) if isinstance(value, MutableSequence) else value
    return None if first in (None, "") else float(first)


def _range(dataset: Dataset, modality: Rule, stored: Values) -> tuple[float, float]:
    """Smallest and largest value of a frame, without its padding."""
    present = _present(stored)
    if (padding := dataset.get("PixelPaddingValue")) is not None:
        low, high = sorted((int(padding), int(dataset.get("PixelPaddingRangeLimit", padding))))
        inside = present[(present < low) | (present > high)]
        present = inside if inside.size else present
    values = modality(present)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ImageUnsupported("the image holds values that are not finite numbers")
    return low, high


def _present(stored: Values) -> Values:
    """The values that occur, each once where they are narrow integers."""
    if stored.dtype.kind not in "ui" or not narrow(stored):
        return stored.ravel()
    low = int(stored.min())
    seen = np.zeros(int(stored.max()) - low + 1, bool)
    for row in stored:
        seen[row.astype(np.int64) - low] = True
    return np.flatnonzero(seen) + low


def _lut(dataset: Dataset, item: Dataset) -> tuple[int, npt.NDArray[np.uint16], int]:
    return _table(dataset, item.LUTDescriptor, item.LUTData)


def _table(dataset: Dataset, descriptor: Any, data: Any) -> tuple[int, npt.NDArray[np.uint16], int]:
    """First value mapped, entries, and bits per entry."""
    order = ">" if dataset.original_encoding[1] is False else "<"
    if isinstance(descriptor, bytes):
        descriptor = np.frombuffer(descriptor, f"{order}u2")
    count, first, depth = (int(number) for number in descriptor)
    count = count & 0xFFFF or 2**16
    if first > 0x7FFF and dataset.get("PixelRepresentation") == 1:
        first -= 2**16
    if isinstance(data, bytes):
        data = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2" if len(data) >= 2 * count else np.uint8)
    entries = np.atleast_1d(np.asarray(data, np.int64))[:count] & 0xFFFF
    if not entries.size or depth not in range(8, 17):
        raise ImageUnreadable("the DICOM file has a lookup table that is damaged")
    return first, entries.astype(np.uint16), depth


def _looked_up(values: Values, first: int, entries: Values) -> Values:
    """Map values; those before the table take its first entry and those behind it its last."""
    return entries[np.clip(values.astype(np.int64) - first, 0, len(entries) - 1)]


def _palette_colours(dataset: Dataset, stored: Values) -> Grey:
    if any(f"{colour}PaletteColorLookupTableData" not in dataset for colour in _COLOURS):
        # A segmented palette can refer to itself and grow without end.
        raise ImageUnsupported(
            "segmented and missing DICOM palettes are not handled; convert the file to RGB"
        )
    channels = []
    for name in (f"{colour}PaletteColorLookupTable" for colour in _COLOURS):
        descriptor, data = dataset[f"{name}Descriptor"].value, dataset[f"{name}Data"].value
        first, entries, depth = _table(dataset, descriptor, data)
        # Some writers say 16 bits and store 8.
        white = 255 if depth == 8 or entries.max() < 256 else 2**depth - 1
        shades = np.rint(entries * (255.0 / white)).clip(0, 255).astype(np.uint8)
        channels.append(_looked_up(stored, first, shades))
    return np.stack(channels, axis=-1)


def _shallow(stored: Values, bits: int) -> Grey:
    """Colours of any depth as 8 bit."""
    if stored.dtype == np.uint8 and bits == 8:
        return stored
    return np.rint(stored.astype(np.float64).clip(0) * (255.0 / (2**bits - 1))).clip(0, 255).astype(np.uint8)
