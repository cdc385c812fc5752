"""Calibrating and measuring a trained specialist on a data set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..._support.progress import Progress
from ..dataset import Dataset, Item
from . import calibration
from .card import MetricValue, SpecialistCard
from .metrics import score_with_intervals
from .pixels import ImageTensors
from .recipe import TrainingConfig
from .specialist import TimmSpecialist, calibrated
from .weighting import Rule, learnt_prior, positive_weights

CHUNK = 256
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """Raw logits of a split, and what is true."""

    logits: npt.NDArray[np.float32]
    """(n, labels), before calibration."""
    truth: npt.NDArray[np.integer]
    """Class index (n,), or 0/1 (n, labels) for multi-label tasks."""
    groups: tuple[str, ...]


def run_split(
    specialist: TimmSpecialist, items: Sequence[Item], *, title: str = "", quiet: bool = True
) -> Outputs:
    """Run a specialist over items of a data set.

    Raises:
        SpecialistError: an image cannot be read.
    """
    import torch

    from .network import normalise

    card = specialist.card
    pixels = ImageTensors([item.path for item in items], card.transform, memory=0)
    rows = []
    with Progress(title, len(items), quiet=quiet) as progress, torch.inference_mode():
        for start in range(0, len(items), CHUNK // 4):
            indices = np.arange(start, min(start + CHUNK // 4, len(items)))
            batch = normalise(pixels.batch(indices).to(specialist.device), card.transform)
            rows.append(specialist.network(batch).float().cpu().numpy())
            progress.advance(len(indices))
    return outputs_of(np.concatenate(rows), items, card)


def outputs_of(logits: npt.NDArray[np.floating], items: Sequence[Item], card: SpecialistCard) -> Outputs:
    """Put logits (n, labels) and what is true of the items together."""
    place = {label: index for index, label in enumerate(card.labels)}
    truth = np.zeros((len(items), len(card.labels)), dtype=np.int64)
    for row, item in enumerate(items):
        truth[row, [place[label] for label in item.labels]] = 1
    return Outputs(
        logits.astype(np.float32),
        truth if card.multilabel else truth.argmax(1),
        tuple(item.group for item in items),
    )


def calibrate(
    specialist: TimmSpecialist, dataset: Dataset, config: TrainingConfig, out_of_fold: Outputs | None = None
) -> SpecialistCard:
    """Fit temperature and decision rule and return the completed card.

    Single-label: with ``decision`` other than ``argmax`` the probabilities are those under equal
    priors, so that the likeliest label is the one that balanced accuracy asks for. Multi-label: the
    probabilities are those at the training data's prevalence, with one threshold per label.

    Args:
        specialist: with its final weights.
        dataset: what it was trained on.
        config: the recipe.
        out_of_fold: what heads said of images that they were fitted without; None: the validation split.
    """
    outputs = out_of_fold or run_split(specialist, dataset.split("val"))
    counts = np.array([dataset.counts()["train"].get(label, 0) for label in dataset.labels], dtype=np.float64)
    rule = config.class_weighting
    if dataset.multilabel:
        return _calibrate_labels(specialist.card, outputs, counts, len(dataset.split("train")), rule)
    bias, weights = np.zeros(len(counts)), None
    if config.decision != "argmax":
        bias = calibration.prior_bias(learnt_prior(counts, rule))
        weights = calibration.balancing_weights(outputs.truth, len(counts))
    temperature = calibration.fit_temperature(outputs.logits, outputs.truth, bias=bias, weights=weights)
    if config.decision == "balanced" and min(np.bincount(outputs.truth)) >= calibration.HANDFUL:
        bias = calibration.fit_bias(outputs.logits / temperature, outputs.truth, start=bias)
    if temperature < 1.01 * calibration.TEMPERATURES[0] or temperature > 0.99 * calibration.TEMPERATURES[1]:
        _log.warning("%s: its temperature is at the edge, %.2f", specialist.card.name, temperature)
    return specialist.card.model_copy(
        update={"temperature": round(temperature, 5), "bias": tuple(round(float(value), 5) for value in bias)}
    )


def _calibrate_labels(
    card: SpecialistCard, outputs: Outputs, counts: npt.NDArray[np.float64], images: int, rule: Rule
) -> SpecialistCard:
    bias = -np.log(positive_weights(counts, images, rule))
    temperature = calibration.fit_temperature(outputs.logits, outputs.truth, bias=bias)
    card = card.model_copy(
        update={"temperature": round(temperature, 5), "bias": tuple(round(float(value), 5) for value in bias)}
    )
    thresholds = calibration.fit_thresholds(calibrated(outputs.logits, card), outputs.truth)
    return card.model_copy(update={"thresholds": tuple(round(float(value), 5) for value in thresholds)})


def assess(
    specialist: TimmSpecialist, dataset: Dataset, splits: Sequence[str], *, seed: int = 0, quiet: bool = True
) -> dict[str, dict[str, MetricValue]]:
    """Measure a calibrated specialist on splits, with intervals from a bootstrap over groups."""
    card = specialist.card
    title = f"{card.task}/{card.name}"
    return {
        split: measured(
            card,
            run_split(specialist, dataset.split(split), title=f"{title} {split}", quiet=quiet),
            seed=seed,
        )
        for split in splits
    }


def measured(card: SpecialistCard, outputs: Outputs, *, seed: int = 0) -> dict[str, MetricValue]:
    """Score what a calibrated specialist said."""
    probabilities = calibrated(outputs.logits, card)
    decided = probabilities.argmax(1)
    if card.multilabel:
        decided = (probabilities >= np.asarray(card.thresholds or 0.5)).astype(int)
    return score_with_intervals(outputs.truth, decided, probabilities, outputs.groups, seed=seed)
