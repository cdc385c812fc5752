"""Where in an image the heat of an activation map lies, in words."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ROWS = ("upper", "middle", "lower")
COLUMNS = ("left", "centre", "right")
HOTTEST = 0.8
"""Of the largest heat: what is as hot counts as looked at."""


def focus(heat: npt.NDArray[np.float32]) -> str | None:
    """Name the ninth of an image in which the hottest part of a map has its centre.

    Args:
        heat: from 0 to 1, (height, width).

    Returns:
        Such as ``upper left part``; left and right are those of the picture, not of the patient. None where
        nothing is hot.
    """
    if not heat.size or float(heat.max()) <= 0.0:
        return None
    rows, columns = np.nonzero(heat >= HOTTEST * float(heat.max()))
    row = ROWS[min(2, int(3 * (rows.mean() + 0.5) / heat.shape[0]))]
    column = COLUMNS[min(2, int(3 * (columns.mean() + 0.5) / heat.shape[1]))]
    if (row, column) == ("middle", "centre"):
        return "centre"
    return f"{row} {column} part"
