"""Grey values of any depth as 8 bit.

The rules, the first that fits:

* a window ``(center, width)``, where given: linear from ``center - width / 2`` (black) to
  ``center + width / 2`` (white);
* unsigned values up to 65535: the smallest depth of 8, 10, 12, 14 and 16 bits that holds the largest value
  is taken for the picture's depth, and its whole range for black to white. So a 12-bit picture in a
  16-bit file is not dark, and an 8-bit picture that was multiplied by 257 comes back as it was;
* floats from 0 to 1: 0 is black and 1 is white;
* anything else: the smallest value is black and the largest is white.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ImageUnsupported

Window = tuple[float, float]
"""Center and width, in a picture's own values."""
Values = npt.NDArray[Any]
"""Grey or colour values of any type of number."""
Grey = npt.NDArray[np.uint8]

_DEPTHS = (8, 10, 12, 14, 16)
_ROWS = 256


def grey8(values: Values, window: Window | None = None) -> Grey:
    """Turn grey values of any type into 8 bit, by the rules above.

    Args:
        values: shape (h, w), finite.
        window: center and width.

    Raises:
        ImageUnsupported: a value is not finite, or the window is impossible.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ImageUnsupported("the image holds values that are not finite numbers")
    if window is not None:
        return rendered(values, lambda v: windowed(v, *window, "LINEAR_EXACT"))
    if values.dtype.kind in "ui" and low >= 0 and high < 2**16:
        white = 2 ** next(bits for bits in _DEPTHS if high < 2**bits) - 1
        return rendered(values, lambda v: v / white)
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return rendered(values, lambda v: v)
    return rendered(values, lambda v: stretched(v, low, high))


def rendered(values: Values, shares: Callable[[Values], Values]) -> Grey:
    """Apply a rule to every value and return 8 bit.

    Args:
        values: shape (h, w).
        shares: turns an array of values of any shape into shares of white, 0 to 1.
    """
    # By rows, so that no float copy of the whole picture is made.
    picture = np.empty(values.shape, np.uint8)
    if values.dtype.kind not in "ui" or not narrow(values):
        for top in range(0, len(values), _ROWS):
            picture[top : top + _ROWS] = np.rint(shares(values[top : top + _ROWS]) * 255.0)
        return picture
    # Each of at most 65536 values is looked at once.
    low = int(values.min())
    table = np.rint(shares(np.arange(low, int(values.max()) + 1)) * 255.0).astype(np.uint8)
    for top in range(0, len(values), _ROWS):
        picture[top : top + _ROWS] = table[values[top : top + _ROWS].astype(np.int64) - low]
    return picture


def narrow(values: Values) -> bool:
    """Whether these integers lie so close together that a table of them is small."""
    return int(values.max()) - int(values.min()) < 2**16


def stretched(values: Values, low: float, high: float) -> npt.NDArray[np.floating]:
    """Values from ``low`` to ``high`` as 0 to 1; all black where both are equal."""
    return np.clip((values.astype(np.float64) - low) / ((high - low) or 1.0), 0.0, 1.0)


def windowed(values: Values, center: float, width: float, function: str) -> npt.NDArray[np.floating]:
    """Apply a window to values of any shape; the result lies from 0 to 1.

    Args:
        values: what the window is defined on (Hounsfield units, for example).
        center: value that becomes middle grey.
        width: how many values lie between black and white.
        function: DICOM's ``LINEAR`` (PS3.3 C.11.2.1.2.1), ``LINEAR_EXACT`` or ``SIGMOID``.

    Raises:
        ImageUnsupported: the width is not positive, or a number is not finite.
    """
    if not (np.isfinite([center, width]).all() and width > 0):
        raise ImageUnsupported("a window needs a finite center and a finite width above 0")
    values = values.astype(np.float64)
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -700.0, 700.0)))
    if function == "LINEAR" and width >= 1:
        center, width = center - 0.5, width - 1.0
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0.0, 1.0)
