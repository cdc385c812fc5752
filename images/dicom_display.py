"""How stored DICOM values are shown: grey by rescale and window, colour by palette.

Grey values go through the Modality LUT or rescale, then through what of this is there first:

1. the caller's window; it takes the file's VOI function, ``LINEAR`` where there is none;
2. the file's VOI LUT sequence (the first LUT);
3. the file's window (the first of several); one of impossible width counts as absent;
4. the whole range of the stored bits, for unsigned values of up to 8 bits without rescale;
5. the frame's own range, smallest value black and largest white, without its padding value.

At the end black and white change places where the presentation LUT shape is ``INVERSE``, or, without a
shape, for ``MONOCHROME1``; dcmtk does the same. Enhanced objects bring rescale and window per frame.

A window or VOI LUT that cannot be read (no numbers, an empty item) is left out, and the next rule of the list
applies; the record of the case says so. A decimal comma counts as a point. A modality LUT without content is
left out too, but a damaged one, or a rescale that is no number, is an error: the window is defined on its
values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any

import numpy as np
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_sequence

from ..errors import ImageUnreadable, ImageUnsupported
from .grey import Grey, Values, Window, narrow, rendered, stretched, windowed
from .headers import ReadBudgetBytesIO
from .palettes import PALETTE_TAGS, LookupTable, lookup_table, palette
from .repairs import repaired

Rule = Callable[[Values], Values]

_TEXTS = frozenset({None, "DS", "IS", "UN", "LO", "SH", "ST", "LT", "UC", "UT"})
"""Value representations whose bytes are numbers as text; None: the file leaves it to the dictionary."""
TAGS = (
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ModalityLUTSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "PresentationLUTShape",
    *PALETTE_TAGS,
)
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
        return 255 - grey if _inverted(dataset, photometric) else grey
    if window is not None:
        raise ImageUnsupported("a window was given, but the image is in colour; leave the window out")
    if photometric == "PALETTE COLOR" and stored.ndim == 2:
        return palette(dataset, stored)
    if photometric == "RGB" and stored.shape[2:] == (3,):
        return _shallow(stored, bits)
    raise ImageUnsupported("this DICOM colour space is not supported; convert the file to RGB or MONOCHROME2")


def _grey_rule(dataset: Dataset, index: int, stored: Values, bits: int, window: Window | None) -> Rule:
    """From stored values to shares of white."""
    rescale, voi = _macros(dataset, index)
    modality = _modality(dataset, rescale)
    function = str(voi.get("VOILUTFunction") or "LINEAR").upper()
    if window is None and (table := _voi_lut(dataset)):
        return lambda v: np.clip(table(np.rint(modality(v))) / (2**table.depth - 1), 0, 1)
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
    stream, length = ReadBudgetBytesIO(raw.value), len(raw.value)
    return read_sequence(stream, raw.is_implicit_VR, raw.is_little_endian, length, default_encoding)


def _inverted(dataset: Dataset, photometric: str) -> bool:
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    return shape == "INVERSE" if shape in ("IDENTITY", "INVERSE") else photometric == "MONOCHROME1"


def _voi_lut(dataset: Dataset) -> LookupTable | None:
    """The first VOI LUT that can be read."""
    for item in _items(dataset, "VOILUTSequence"):
        try:
            return lookup_table(dataset, item.get("LUTDescriptor"), item.get("LUTData"))
        except (ImageUnreadable, TypeError, ValueError):
            repaired("A VOI LUT of the DICOM file is empty or damaged and was left out.")
    return None


def _modality(dataset: Dataset, rescale: Dataset) -> Rule:
    """Modality LUT or rescale."""
    for item in _items(dataset, "ModalityLUTSequence"):
        if item.get("LUTDescriptor") and item.get("LUTData"):
            table = lookup_table(dataset, item.LUTDescriptor, item.LUTData)
            return lambda v: table(v)
        repaired("A modality LUT of the DICOM file is empty and was left out.")
    slopes, intercepts = _numbers(rescale, "RescaleSlope"), _numbers(rescale, "RescaleIntercept")
    if not slopes or not intercepts or (slope := slopes[0], intercept := intercepts[0]) == (1.0, 0.0):
        return _unchanged
    if slope == 0:
        repaired("The rescale slope of the DICOM file is 0, which would leave one grey, and was left out.")
        return _unchanged
    if not np.isfinite([slope, intercept]).all():
        raise ImageUnreadable("the DICOM header has no valid rescale")
    return lambda v: v.astype(np.float64) * slope + intercept


def _unchanged(values: Values) -> Values:
    return values


def _window(voi: Dataset, function: str) -> Window | None:
    """The first window that can be used."""
    centers, widths = _numbers(voi, "WindowCenter"), _numbers(voi, "WindowWidth")
    for center, width in zip(centers, widths, strict=False):
        if math.isfinite(center) and (1 <= width < math.inf or (0 < width < 1 and function != "LINEAR")):
            return center, width
    if centers and widths:
        repaired("The window of the DICOM file cannot be read or is impossible, and was left out.")
    return None


def _numbers(dataset: Dataset, keyword: str) -> list[float]:
    """The numbers of an element; NaN for what is none. Values that are empty are left out."""
    raw = dataset.get_item(keyword) if keyword in dataset else None
    if isinstance(raw, RawDataElement) and raw.VR in _TEXTS:
        return [_number(text) for text in _text(raw).split("\\") if text.strip(" \0")]
    value = None if raw is None else dataset.get(keyword)
    several = value if isinstance(value, MutableSequence) else [value]
    return [float(one) for one in several if one not in (None, "")]


def _text(raw: RawDataElement) -> str:
    return (raw.value or b"").decode("ascii", "replace")


def _number(text: str) -> float:
    """A decimal string, perhaps with a decimal comma; NaN where it is none."""
    text = text.strip(" \0")
    try:
        if text.count(",") == 1 and "." not in text:
            number = float(text.replace(",", "."))
            repaired("A decimal comma in the DICOM header was read as a point.")
            return number
        return float(text)
    except ValueError:
        return math.nan


def _range(dataset: Dataset, modality: Rule, stored: Values) -> tuple[float, float]:
    """Smallest and largest value of a frame, without its padding."""
    present = _present(stored)
    bounds = [_padding(dataset, name, stored) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if (padding := bounds[0]) is not None:
        low, high = sorted((padding, padding if bounds[1] is None else bounds[1]))
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


def _padding(dataset: Dataset, keyword: str, stored: Values) -> int | None:
    """A padding value as the pixels store it, whichever VR it was written with (US for SS is frequent)."""
    raw = dataset.get_item(keyword) if keyword in dataset else None
    value: Any = raw.value if raw is not None else None
    if isinstance(raw, RawDataElement) and raw.VR in _TEXTS - {None, "UN"}:
        value = next(iter(_numbers(dataset, keyword)), None)
    elif raw is not None and isinstance(value, bytes):
        order = "little" if dataset.original_encoding[1] is not False else "big"
        value = int.from_bytes(value[:4] if raw.VR in ("SL", "UL") else value[:2], order) if value else None
    if value is None or value != value or stored.dtype.kind not in "ui":
        return None if value is None or value != value else int(value)
    size = 8 * stored.dtype.itemsize
    number = int(value) & (2**size - 1)
    return number - 2**size if stored.dtype.kind == "i" and number >= 2 ** (size - 1) else number


def _shallow(stored: Values, bits: int) -> Grey:
    """Colours of any depth as 8 bit."""
    if stored.dtype == np.uint8 and bits == 8:
        return stored
    return np.rint(stored.astype(np.float64).clip(0) * (255.0 / (2**bits - 1))).clip(0, 255).astype(np.uint8)
