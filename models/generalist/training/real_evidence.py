"""Real evidence for training prompts: what specialists said of an image, and its nearest known cases."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ....case import Opinion, SimilarCase
from ....disk import replacing
from ....errors import ConfigurationError
from .evidence import Random, similar_case

Floats = npt.NDArray[np.float32]
_BLOCK = 512


@dataclass(frozen=True)
class RealEvidence:
    """Opinions and neighbours of every image of one split."""

    members: tuple[str, ...]
    """Names of the specialists, in the panel's order."""
    probabilities: Floats
    """(members, images, labels), calibrated"""
    reliabilities: Floats
    """(members, images) balanced accuracy on validation images, as the one who judged has it."""
    neighbours: npt.NDArray[np.int64]
    """(images, k) labels of the most similar known cases, most similar first."""
    similarities: Floats
    """(images, k) cosine."""

    def opinions(
        self, index: int, names: tuple[str, ...], random: Random, whole: float
    ) -> tuple[Opinion, ...]:
        """What the panel says of one image, in its order.

        Args:
            index: of the image.
            names: what its labels are called.
            random: draws who is there.
            whole: how often the whole panel is; else it is a part of at least one.
        """
        count = len(self.members)
        present = count if random.random() < whole else int(random.integers(1, count + 1))
        chosen = sorted(random.permutation(count)[:present])
        return tuple(self._opinion(member, index, names) for member in chosen)

    def similar(self, index: int, names: tuple[str, ...], count: int) -> tuple[SimilarCase, ...]:
        """The ``count`` nearest neighbours of one image."""
        pairs = zip(self.neighbours[index, :count], self.similarities[index, :count], strict=True)
        return tuple(similar_case(names[label], float(similarity)) for label, similarity in pairs)

    def _opinion(self, member: int, index: int, names: tuple[str, ...]) -> Opinion:
        values = np.clip(self.probabilities[member, index], 0, 1)
        return Opinion(
            specialist=self.members[member],
            architecture="specialist",
            labels=(names[int(values.argmax())],),
            probabilities=dict(zip(names, map(float, values), strict=True)),
            reliability=float(self.reliabilities[member, index]),
        )


def judged(
    members: tuple[str, ...],
    probabilities: Floats,
    reliabilities: Floats,
    queries: Floats,
    known: Floats,
    labels: npt.NDArray[np.int64],
    neighbours: int,
) -> RealEvidence:
    """Put opinions and the nearest known cases together.

    Args:
        members: names.
        probabilities: (members, images, labels).
        reliabilities: (members, images).
        queries: L2-normalised embeddings of the images, (images, d).
        known: embeddings of the known cases, (n, d); none of them is of an image's own group.
        labels: their labels' indices, (n,).
        neighbours: per image.
    """
    count = min(neighbours, len(known))
    found = np.empty((len(queries), count), dtype=np.int64)
    similarities = np.empty((len(queries), count), dtype=np.float32)
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK] @ known.T
        nearest = np.argsort(-block, axis=1, kind="stable")[:, :count]
        found[start : start + _BLOCK] = labels[nearest]
        similarities[start : start + _BLOCK] = np.take_along_axis(block, nearest, axis=1)
    return RealEvidence(members, probabilities, reliabilities, found, similarities)


def write_evidence(evidence: RealEvidence, path: Path) -> None:
    """Write as compressed npz at half precision, all of it or nothing."""
    content: Any = {
        field.name: _small(np.asarray(getattr(evidence, field.name))) for field in fields(evidence)
    }
    with replacing(path) as fresh:
        np.savez_compressed(fresh, **content)


def read_evidence(path: Path, images: int, labels: int) -> RealEvidence:
    """Read what ``write_evidence`` wrote.

    Raises:
        ConfigurationError: the file is damaged or of other images.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content: Any = {field.name: _wide(arrays[field.name]) for field in fields(RealEvidence)}
            content["members"] = tuple(map(str, content["members"]))
            found = RealEvidence(**content)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{path} holds no evidence ({error}); remove it") from error
    if found.probabilities.shape[1:] != (images, labels) or len(found.neighbours) != images:
        raise ConfigurationError(f"{path} is evidence for other images than the {images} at hand; remove it")
    return found


def _small(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    if array.dtype.kind == "f":
        return array.astype(np.float16)
    return array.astype(np.min_scalar_type(int(array.max(initial=0)))) if array.dtype.kind == "i" else array


def _wide(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    kinds = {"f": np.float32, "i": np.int64, "u": np.int64}
    return array.astype(kinds[array.dtype.kind]) if array.dtype.kind in kinds else array
