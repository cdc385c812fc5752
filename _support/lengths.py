"""Lengths of vectors, the same bits wherever the vectors lie in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def lengths_of(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the L2 lengths of vectors (…, d), as (…, 1).

    They are summed in double precision: in single precision the last bit of a sum depends on where the
    processor's wide instructions begin, and so on the address of the vector.
    """
    squares = np.einsum("...i,...i->...", vectors, vectors, dtype=np.float64)
    return np.sqrt(squares)[..., None].astype(np.float32)
