"""What a rare class counts for: loss weights, and the prior that they leave to be corrected."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from .calibration import HANDFUL

Floats = npt.NDArray[np.floating]
Rule = Literal["none", "sqrt", "balanced"]

POSITIVE_WEIGHTS = (0.05, 20.0)
"""Bounds for multi-label tasks: a label seen twice must not get a weight of thousands."""

CLASS_WEIGHTS = 20.0
"""Of single-label tasks, the largest weight of a class relative to the smallest."""

_POWERS = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}


def class_weights(counts: npt.NDArray[np.number], rule: Rule) -> Floats:
    """Return a loss weight per class, inverse to its count (or the root of it); the mean over images is one.

    A class with a handful of images weighs no more than if it had ``HANDFUL``, and none more than
    ``CLASS_WEIGHTS`` times the lightest one.

    Args:
        counts: training images per class.
        rule: how much of the imbalance is evened out.
    """
    counts = np.maximum(counts.astype(np.float64), 1)
    weights = np.maximum(counts, HANDFUL) ** -_POWERS[rule]
    weights = np.minimum(weights, weights.min() * CLASS_WEIGHTS)
    return weights * counts.sum() / (weights * counts).sum()


def learnt_prior(counts: npt.NDArray[np.number], rule: Rule) -> Floats:
    """Return the share of each class in what a network trained with these weights believes.

    A class with a handful of images counts as one with ``HANDFUL``: correcting for its true share would let
    it be said wherever the network is unsure.
    """
    weighted = np.maximum(counts.astype(np.float64), HANDFUL) * class_weights(counts, rule)
    return weighted / weighted.sum()


def positive_weights(counts: npt.NDArray[np.number], images: int, rule: Rule) -> Floats:
    """Return the loss weight of the positives of each label of a multi-label task.

    A weight w shifts the logits that are learnt by log w.

    Args:
        counts: training images that carry the label.
        images: all training images.
        rule: how much of the imbalance is evened out.
    """
    counts = np.maximum(counts.astype(np.float64), 1)
    return np.clip((np.maximum(images - counts, 1) / counts) ** _POWERS[rule], *POSITIVE_WEIGHTS)
