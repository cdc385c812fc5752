"""What predicts the label without showing the disease: size, format, border, marks, device, file name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .folds import grouped_folds, measurable_rows
from .image_facts import ImageFacts

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

_MOST = 2000
_CATEGORIES = 20
_BEYOND = 0.15
_INNER = "inner "


@dataclass(frozen=True)
class Confounder:
    """A property that predicts the label by itself."""

    name: str
    """``size``, ``format``, ``device``, ``border``, ``corners``, ``colour`` or ``file name``."""
    accuracy: float
    """Balanced accuracy of a forest on that property alone, cross-validated by group."""
    low: float
    """Lower end of its 95 % interval."""
    chance: float
    """Balanced accuracy of guessing: one over the number of classes."""
    inner: float | None = None
    """Balanced accuracy of the same numbers from the middle of the image, where the disease may show."""

    @property
    def skill(self) -> float:
        """Share of the way from chance to certainty, at the lower end of the interval."""
        return (self.low - self.chance) / (1 - self.chance)

    @property
    def beyond_content(self) -> bool:
        """Whether it tells more than the same numbers from the middle of the image do."""
        return self.inner is None or self.accuracy - self.inner > _BEYOND * (1 - self.chance)


def simple_properties(
    facts: Sequence[ImageFacts], paths: Sequence[Path], labels: Sequence[str]
) -> dict[str, Floats]:
    """Return the properties as numbers: name to (n, columns). Properties that never vary are left out.

    Args:
        facts: of each image.
        paths: its file.
        labels: every label, whose words say nothing in a file's name.
    """
    found = {
        "size": np.array([(one.width, one.height, one.width / one.height) for one in facts], float),
        "format": _one_hot([one.format for one in facts]),
        "device": _one_hot([one.device for one in facts]),
        "border": np.stack([one.border for one in facts]),
        "corners": np.stack([one.corners for one in facts]),
        f"{_INNER}border": np.stack([one.inner_border for one in facts]),
        f"{_INNER}corners": np.stack([one.inner_corners for one in facts]),
        "colour": np.array([(one.colour > 0.01,) for one in facts], float),
        "file name": _one_hot([name_pattern(path, labels) for path in paths]),
    }
    return {name: values for name, values in found.items() if (values != values[0]).any()}


def name_pattern(path: Path, labels: Sequence[str]) -> str:
    """The letters of a file's name without those of the labels, numbers as one sign."""
    name = path.stem.casefold()
    words = {word for label in labels for word in re.findall(r"[^\W\d_]+", label.casefold())}
    for word in sorted({*words, *(label.casefold() for label in labels)}, key=len, reverse=True):
        name = name.replace(word, "")
    return re.sub(r"[\d\W_]+", "#", re.sub(r"\b(?=\w*\d)[0-9a-f]{8,}\b", "#", name)).strip("#")


def _one_hot(values: Sequence[str]) -> Floats:
    names, counts = np.unique(np.array(values), return_counts=True)
    # Names of their own for nearly each image identify it and say nothing about others.
    kept = names[np.argsort(-counts)][:_CATEGORIES]
    return (np.array(values)[:, None] == kept[None]).astype(float)


def find_confounders(
    properties: dict[str, Floats], truth: Ints, groups: Sequence[str], *, seed: int = 0
) -> list[Confounder]:
    """Measure how well each property predicts the label.

    Args:
        properties: see ``simple_properties``.
        truth: (n,) label of each image.
        groups: of each image; none is in both parts of a fold.
        seed: draws folds, forests and the bootstrap.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(truth))[:_MOST])
    rows = rows[measurable_rows(truth[rows], [groups[int(row)] for row in rows])]
    if not len(rows):
        return []
    kept = [groups[int(row)] for row in rows]
    measured = {
        name: _measure(name, values[rows], truth[rows], kept, seed) for name, values in properties.items()
    }
    return [
        replace(one, inner=inner.accuracy) if (inner := measured.get(_INNER + name)) else one
        for name, one in sorted(measured.items())
        if not name.startswith(_INNER)
    ]


def _measure(name: str, values: Floats, truth: Ints, groups: Sequence[str], seed: int) -> Confounder:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(
        100, min_samples_leaf=5, class_weight="balanced_subsample", random_state=seed, n_jobs=1
    )
    told = np.full(len(truth), -1)
    for fit, held in grouped_folds(truth, groups, seed):
        told[held] = forest.fit(values[fit], truth[fit]).predict(values[held])
    right = told == truth
    rng = np.random.default_rng(seed)
    classes = [right[truth == label] for label in np.unique(truth)]
    draws = [np.mean([rng.choice(one, len(one)).mean() for one in classes]) for _ in range(200)]
    accuracy = float(np.mean([one.mean() for one in classes]))
    return Confounder(name, accuracy, float(np.quantile(draws, 0.025)), 1 / len(classes))
