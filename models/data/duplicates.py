"""Images that occur more than once in a data set: pixel by pixel, or nearly."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ...images.fingerprints import BITS, NEAR

_CHUNK = 2**24
_FLAT = 4.0
"""Grey spread under which a picture shows too little to be compared."""


def equal_images(pixels: Sequence[str | None]) -> list[list[int]]:
    """Return the places of images with equal pixels, in clusters of two or more.

    Args:
        pixels: hash of each image's pixels; None for images to leave out.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, digest in enumerate(pixels):
        if digest is not None:
            places[digest].append(place)
    return [several for several in places.values() if len(several) > 1]


def near_pairs(
    fingerprints: npt.NDArray[np.bool_], spreads: npt.NDArray[np.floating]
) -> list[tuple[int, int]]:
    """Return the pairs of images that look the same: resized, saved again, or a little brighter.

    Args:
        fingerprints: (n, 144).
        spreads: (n,) standard deviation of the grey values; nearly flat images have no fingerprint to trust.
    """
    usable = np.flatnonzero(spreads >= _FLAT)
    signs = np.where(fingerprints[usable], 1, -1).astype(np.float32)
    found: list[tuple[int, int]] = []
    step = max(1, _CHUNK // max(1, len(signs)))
    for start in range(0, len(signs), step):
        # The product of signs counts the bits that agree minus those that differ.
        agree = signs[start : start + step] @ signs.T
        rows, columns = np.nonzero(agree >= BITS - 2 * NEAR)
        upper = columns > rows + start
        found += [
            (int(usable[row + start]), int(usable[column]))
            for row, column in zip(rows[upper], columns[upper], strict=True)
        ]
    return found


def joined_groups(groups: Sequence[str], pairs: Iterable[tuple[int, int]], largest: int) -> list[str]:
    """Put the groups of images that belong together into one.

    A pair that would make a group of more than ``largest`` images is not followed: so many images that
    resemble each other are frames of one form, not copies.

    Args:
        groups: of each image.
        pairs: places of images that belong together.
        largest: number of images in a joined group.

    Returns:
        The group of each image; a joined group has the name of its first member.
    """
    parent = {group: group for group in groups}
    size = Counter(groups)

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    for one, other in sorted(pairs):
        first, second = root(groups[one]), root(groups[other])
        if first != second and size[first] + size[second] <= largest:
            parent[second] = first
            size[first] += size[second]
    return [root(group) for group in groups]
