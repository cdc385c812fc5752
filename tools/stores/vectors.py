"""What every store asks of a vector before it believes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..._support.lengths import lengths_of
from ...errors import StoreError, VectorMismatch
from .protocol import Entry, Exclusion, Vectors

LENGTH_TOLERANCE = 0.01
"""How far a vector's length may be from one; half precision alone moves it by about 0.0001."""


def unit_vectors(vectors: npt.ArrayLike, what: str) -> Vectors:
    """Check an array of shape (n, d) or (d,) and return it as normalised float32.

    Args:
        vectors: any real dtype.
        what: how an error names them, for example ``query``.

    Raises:
        StoreError: not numbers, not finite, or rows that are not L2-normalised.
    """
    array = np.asarray(vectors)
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2) or array.shape[-1] == 0:
        raise StoreError(f"{what}: expected numbers of shape (d,) or (n, d), got {array.dtype} {array.shape}")
    array = array.astype(np.float32)
    lengths = lengths_of(array)
    if not np.isfinite(lengths).all():
        raise StoreError(f"{what}: a vector holds NaN or infinity")
    if (np.abs(lengths - 1.0) > LENGTH_TOLERANCE).any():
        raise StoreError(f"{what}: a vector is not L2-normalised; divide it by its length")
    return array / lengths


def checked_entry(entry: Entry) -> Entry:
    """The entry with normalised vectors.

    Raises:
        StoreError: a vector that is not one finite, L2-normalised vector.
    """
    vectors: dict[str, Vectors] = {}
    for name, vector in entry.vectors.items():
        what = f"vector of encoder {name!r} of case {entry.case.id}"
        vectors[name] = unit_vectors(vector, what)
        if vectors[name].ndim != 1:
            raise StoreError(f"{what}: expected one vector of shape (d,), got {vectors[name].shape}")
    return Entry(entry.case, vectors, entry.thumbnail)


def checked_queries(vectors: Vectors, k: int, exclude: Sequence[Exclusion]) -> Vectors | None:
    """The queries of a search, normalised; None where there is nothing to look for.

    Raises:
        StoreError: they are no unit vectors, k is negative, or the exclusions are not one for each.
    """
    if exclude and len(exclude) != len(vectors):
        raise StoreError(f"{len(vectors)} queries need as many exclusions, not {len(exclude)}")
    if k < 0:
        raise StoreError(f"k must not be negative, it is {k}")
    if k == 0 or not len(vectors):
        return None
    queries = unit_vectors(vectors, "query")
    if queries.ndim != 2:
        raise StoreError(f"queries: expected shape (n, d), got {queries.shape}")
    return queries


def same_width(encoder: str, width: int, given: int) -> None:
    """Refuse vectors whose width is not the encoder's.

    Raises:
        VectorMismatch: naming both widths.
    """
    if width != given:
        raise VectorMismatch(
            f"encoder {encoder!r} has vectors of width {width} in this store, the given ones have {given}; "
            "use the specialist that the store was built with, or build a new store"
        )


def known_encoder(encoder: str, widths: dict[str, int]) -> None:
    """Refuse an encoder that a store holds no vectors of.

    Raises:
        VectorMismatch: naming the ones it has.
    """
    if encoder not in widths:
        raise VectorMismatch(
            f"the store has no vectors of encoder {encoder!r}, only of {', '.join(sorted(widths))}; "
            "use one of these, or index the cases with it"
        )


def pack(vectors: Vectors) -> npt.NDArray[np.float16]:
    """Half precision, as stores and banks keep it: similarities change by less than 0.001."""
    return vectors.astype("<f2")


def unpack(halves: npt.NDArray[np.float16]) -> Vectors:
    """Back to normalised float32; packing the result again gives the same bits."""
    array = halves.astype(np.float32)
    return array / lengths_of(array)
