"""Real evidence for training prompts: out-of-fold opinions of probes, and real neighbours."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ....case import Opinion, SimilarCase
from ....errors import ConfigurationError
from .evidence import Random, similar_case

Floats = npt.NDArray[np.float32]

FOLDS = 5
WIDTHS = (192, 48, 12)
"""Principal components that each probe reads: a good, a fair and a poor expert."""
PENALTY = 3.0
NEIGHBOURS = 10


@dataclass(frozen=True)
class RealEvidence:
    """Opinions and neighbours of every image of one split."""

    probabilities: Floats
    """(experts, images, labels)"""
    reliabilities: Floats
    """(experts,) balanced accuracy, out of fold."""
    neighbours: npt.NDArray[np.int64]
    """(images, k) labels of the most similar training images of other groups, most similar first."""
    similarities: Floats
    """(images, k) cosine."""

    def opinions(self, index: int, names: tuple[str, ...], random: Random, most: int) -> tuple[Opinion, ...]:
        """Opinions of up to ``most`` probes on one image; ``names`` are what its labels are called."""
        experts = random.permutation(len(self.reliabilities))[: int(random.integers(1, most + 1))]
        return tuple(
            Opinion(
                specialist=f"probe-{expert}",
                architecture="probe",
                labels=(names[int(self.probabilities[expert, index].argmax())],),
                probabilities=dict(
                    zip(names, map(float, np.clip(self.probabilities[expert, index], 0, 1)), strict=True)
                ),
                reliability=float(self.reliabilities[expert]),
            )
            for expert in sorted(experts)
        )

    def similar(self, index: int, names: tuple[str, ...], count: int) -> tuple[SimilarCase, ...]:
        """The ``count`` nearest neighbours of one image."""
        pairs = zip(self.neighbours[index, :count], self.similarities[index, :count], strict=True)
        return tuple(similar_case(names[label], float(similarity)) for label, similarity in pairs)


def real_evidence(
    train: Floats,
    targets: npt.NDArray[np.int64],
    groups: npt.NDArray[np.str_],
    queries: Floats | None = None,
    *,
    neighbours: int = NEIGHBOURS,
    seed: int = 0,
) -> RealEvidence:
    """Compute opinions and neighbours that do not know the image they speak of.

    Args:
        train: L2-normalised embeddings of the training images, (n, d).
        targets: their labels' indices, (n,).
        groups: their groups, (n,); an image's own group is neither in its probes' training folds nor
            among its neighbours.
        queries: embeddings of other images (m, d), whose groups are not in training; None means the
            training images themselves, out of fold.
        neighbours: per image.
        seed: draws the folds.

    Raises:
        ConfigurationError: there are fewer groups than folds.
    """
    if len(np.unique(groups)) < FOLDS:
        raise ConfigurationError(f"real evidence needs at least {FOLDS} groups in the training split")
    components, others = _components(train, queries)
    inside = [_out_of_fold(components[:, :width], targets, groups, seed) for width in WIDTHS]
    reliabilities = np.array([_balanced(found, targets) for found in inside], dtype=np.float32)
    if queries is not None:
        inside = [_Probe(components[:, :width], targets)(others[:, :width]) for width in WIDTHS]
    labels, similarities = _nearest(train, targets, groups, queries, neighbours)
    return RealEvidence(np.stack(inside).astype(np.float32), reliabilities, labels, similarities)


def write_evidence(evidence: RealEvidence, path: Path) -> None:
    """Write as npz, all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("wb") as file:
        np.savez(file, **{field.name: getattr(evidence, field.name) for field in fields(evidence)})
    fresh.replace(path)


def read_evidence(path: Path, images: int, labels: int) -> RealEvidence:
    """Read what ``write_evidence`` wrote.

    Raises:
        ConfigurationError: the file is damaged or of other images.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = RealEvidence(**{field.name: arrays[field.name] for field in fields(RealEvidence)})
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{path} holds no evidence ({error}); remove it") from error
    if found.probabilities.shape[1:] != (images, labels) or len(found.neighbours) != images:
        raise ConfigurationError(f"{path} is evidence for other images than the {images} at hand; remove it")
    return found


def _out_of_fold(
    train: Floats, targets: npt.NDArray[np.int64], groups: npt.NDArray[np.str_], seed: int
) -> Floats:
    from sklearn.model_selection import StratifiedGroupKFold

    found = np.zeros((len(train), int(targets.max()) + 1), dtype=np.float32)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for inside, outside in folds.split(train, targets, groups):
        found[outside] = _Probe(train[inside], targets[inside], found.shape[1])(train[outside])
    return found


def _components(train: Floats, queries: Floats | None) -> tuple[Floats, Floats]:
    """Principal components of the training images, and the queries' (without queries their own again).

    No label enters here, so the folds need not be kept apart.
    """
    from sklearn.decomposition import PCA

    count = min(WIDTHS[0], *train.shape)
    model = PCA(count, svd_solver="covariance_eigh").fit(train)
    components = model.transform(train)
    scale = components[:, 0].std() + 1e-9
    others = components if queries is None else model.transform(queries)
    return (components / scale).astype(np.float32), (others / scale).astype(np.float32)


class _Probe:
    """A logistic regression on principal components."""

    def __init__(self, train: Floats, targets: npt.NDArray[np.int64], classes: int | None = None) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        self._classes = classes or int(targets.max()) + 1
        self._model = LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=200, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.fit(train, targets)

    def __call__(self, queries: Floats) -> Floats:
        found = np.zeros((len(queries), self._classes), dtype=np.float32)
        found[:, self._model.classes_] = self._model.predict_proba(queries)
        return found


def _balanced(probabilities: Floats, targets: npt.NDArray[np.int64]) -> float:
    predicted = probabilities.argmax(1)
    return float(np.mean([np.mean(predicted[targets == label] == label) for label in np.unique(targets)]))


def _nearest(
    train: Floats,
    targets: npt.NDArray[np.int64],
    groups: npt.NDArray[np.str_],
    queries: Floats | None,
    count: int,
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Labels and similarities of the nearest training images, for training images those of other groups."""
    asked = train if queries is None else queries
    count = min(count, len(train) - int(np.unique(groups, return_counts=True)[1].max()))
    labels = np.empty((len(asked), count), dtype=np.int64)
    similarities = np.empty((len(asked), count), dtype=np.float32)
    for start in range(0, len(asked), 512):
        block = asked[start : start + 512] @ train.T
        if queries is None:
            block[groups[start : start + 512, None] == groups[None, :]] = -np.inf
        nearest = np.argsort(-block, axis=1, kind="stable")[:, :count]
        labels[start : start + 512] = targets[nearest]
        similarities[start : start + 512] = np.take_along_axis(block, nearest, axis=1)
    return labels, similarities
