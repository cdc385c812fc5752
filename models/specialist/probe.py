"""The fast path for a frozen backbone: embed every image once, then a logistic regression."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..._support.progress import Progress
from ...disk import replacing
from .calibration import fit_temperature, negative_log_likelihood, sigmoid, softmax
from .metrics import score
from .network import classifier_of, embedded, place
from .pixels import ImageTensors
from .recipe import TrainingConfig
from .weighting import class_weights

if TYPE_CHECKING:
    import torch
    from torch import nn

Floats = npt.NDArray[np.floating]
_log = logging.getLogger(__name__)

CHUNK = 512
"""Images per cached file of embeddings: what an interruption can cost."""

START = -3.0
"""Exponent of the C that is tried first, the inverse strength of the regularisation."""
LIMITS = (-7.0, 3.0)
"""As far as it goes from there, while the images allow it."""
FOLDS, FEW_FOLDS, MANY = 5, 3, 2000
"""From so many images on three folds tell as much as five."""
TOLERANCE, SEARCH_TOLERANCE = 1e-4, 1e-3
"""Of the solver, for the final weights and while C is sought."""
ABSENT = -20.0
"""Score of a class that none of the images of a fit has."""


def embed_pixels(
    network: nn.Module,
    pixels: ImageTensors,
    cache: Path,
    *,
    batch_size: int,
    device: torch.device,
    title: str,
    quiet: bool = False,
) -> Floats:
    """Return the trunk's embeddings (n, d), going on from the chunks that are cached.

    Args:
        network: in evaluation mode.
        pixels: the images.
        cache: folder of the chunks, for this network and these images only.
        batch_size: images per forward pass.
        device: where it runs.
        title: of the progress bar.
        quiet: show no progress.
    """
    cache.mkdir(parents=True, exist_ok=True)
    chunks = []
    with Progress(title, len(pixels), quiet=quiet) as progress:
        for start in range(0, len(pixels), CHUNK):
            file = cache / f"{start:08d}.npy"
            stop = min(start + CHUNK, len(pixels))
            if not file.is_file():
                rows = _embed(network, pixels, np.arange(start, stop), batch_size, device)
                with replacing(file) as fresh:
                    np.save(fresh, rows, allow_pickle=False)
            chunks.append(np.load(file, allow_pickle=False))
            progress.advance(stop - start)
    return np.concatenate(chunks)


def _embed(
    network: nn.Module,
    pixels: ImageTensors,
    indices: npt.NDArray[np.integer],
    batch_size: int,
    device: torch.device,
) -> Floats:
    import torch

    network = place(network, device)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(indices), batch_size):
            batch = pixels.batch(indices[start : start + batch_size]).to(device)
            rows.append(embedded(network, batch, pixels.transform).cpu().numpy())
    return np.concatenate(rows)


@dataclass(frozen=True)
class OutOfFold:
    """What heads said of the images that they were fitted without."""

    logits: Floats
    """(n, labels)."""
    targets: Floats
    """(n, labels)."""
    rows: npt.NDArray[np.intp]
    """Places of these images among all, (n,); one whose class only its own fold has is left out."""


@dataclass(frozen=True)
class Probe:
    """A fitted head."""

    weight: Floats
    """(labels, d)."""
    bias: Floats
    """(labels,)."""
    numbers: dict[str, float]
    """For the card's history."""
    out_of_fold: OutOfFold
    """Of training and validation images together, at the chosen regularisation: the temperature is fitted
    on these."""


def fit_probe(
    features: Floats,
    targets: Floats,
    groups: Sequence[str],
    training: int,
    config: TrainingConfig,
    *,
    multilabel: bool,
) -> Probe:
    """Fit a logistic regression on the training images.

    C is chosen by log loss at its best temperature, out of fold on training and validation images together
    and with whole groups left out: a validation split of a few images alone chooses it badly. Where the best
    C is at the edge of the grid, the grid grows.

    Args:
        features: embeddings (n, d), those of the training images first.
        targets: one-hot or multi-hot (n, labels).
        groups: patient or group of each image.
        training: how many of the images are training images.
        config: class weighting, criterion and seed are used.
        multilabel: one regression per label instead of one for all.
    """
    mean, spread = features[:training].mean(0), features[:training].std(0) + 1e-6
    scaled = (features - mean) / spread
    # With fewer images than dimensions, a rotation into as many loses nothing and is several times faster.
    basis = _basis(scaled)
    scaled = scaled if basis is None else scaled @ basis
    folds = _folds(targets, groups, config.seed)
    tried: dict[float, tuple[float, float, OutOfFold]] = {}

    def value(penalty: float) -> float:
        if penalty not in tried:
            said = _out_of_fold(scaled, targets, folds, penalty, config, multilabel=multilabel)
            tried[penalty] = (*_judge(said, config, multilabel=multilabel), said)
        loss, balanced, _ = tried[penalty]
        return -loss if config.criterion == "loss" else balanced - 1e-6 * loss

    best = _search(value)
    loss, balanced, said = tried[best]
    weight, bias = _regress(
        scaled[:training], targets[:training], best, config, multilabel=multilabel, tolerance=TOLERANCE
    )
    folded = (weight if basis is None else weight @ basis.T) / spread
    return Probe(
        folded.astype(np.float32),
        (bias - folded @ mean).astype(np.float32),
        {"c": best, "oof_loss": loss, "oof_balanced_accuracy": balanced, "oof_images": len(said.rows)},
        said,
    )


def _basis(scaled: Floats) -> Floats | None:
    """Orthonormal directions (d, n) that n images span; None where there are as many images as dimensions."""
    if len(scaled) >= scaled.shape[1]:
        return None
    return np.linalg.svd(scaled.astype(np.float64), full_matrices=False)[2].T


def _search(value: Callable[[float], float]) -> float:
    """The penalty of the highest value: by decades from the usual one, as far as it rises, then by halves."""
    best, step = START, 1.0
    up, down = value(10.0 ** (best + 1)), value(10.0 ** (best - 1))
    if max(up, down) > value(10.0**best):
        step = 1.0 if up > down else -1.0
        best += step
        while LIMITS[0] < best < LIMITS[1] and value(10.0 ** (best + step)) > value(10.0**best):
            best += step
    if best in LIMITS:
        _log.warning(
            "the regularisation is at the edge of what is tried (C = %g): the images may not show the "
            "labels, or show them too easily",
            10.0**best,
        )
    near = [best, best - 0.5, best + 0.5]
    return 10.0 ** max(near, key=lambda exponent: value(10.0**exponent))


def _folds(
    targets: Floats, groups: Sequence[str], seed: int
) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Rows to fit on and rows left out; no group is in both, and labels are spread as far as groups allow."""
    from sklearn.model_selection import KFold, StratifiedGroupKFold

    number = FOLDS if len(targets) < MANY else FEW_FOLDS
    if len(set(groups)) < number:
        return list(KFold(min(number, len(targets)), shuffle=True, random_state=seed).split(targets))
    # Of several labels the rarest decides where an image goes.
    rarity = np.where(targets > 0, targets.sum(0), np.inf)
    rarest = np.where(targets.any(1), rarity.argmin(1), targets.shape[1])
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer images than folds is spread as far as it goes.
        warnings.simplefilter("ignore", UserWarning)
        return list(splitter.split(targets, rarest, groups))


def _out_of_fold(
    features: Floats,
    targets: Floats,
    folds: Sequence[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]],
    penalty: float,
    config: TrainingConfig,
    *,
    multilabel: bool,
) -> OutOfFold:
    logits, known = np.zeros(targets.shape), np.ones(len(targets), bool)
    for rest, left_out in folds:
        weight, bias = _regress(features[rest], targets[rest], penalty, config, multilabel=multilabel)
        logits[left_out] = features[left_out] @ weight.T + bias
        if not multilabel:
            there = targets[rest].sum(0) > 0
            known[left_out] = there[targets[left_out].argmax(1)]
    rows = np.flatnonzero(known)
    return OutOfFold(logits[rows], targets[rows], rows)


def _judge(said: OutOfFold, config: TrainingConfig, *, multilabel: bool) -> tuple[float, float]:
    """Log loss at the best temperature, and balanced accuracy."""
    truth = said.targets.astype(int) if multilabel else said.targets.argmax(1)
    weights = None
    if not multilabel:
        of_class = class_weights(said.targets.sum(0), config.class_weighting)
        weights = of_class[truth]
    temperature = fit_temperature(said.logits, truth, weights=weights)
    losses = negative_log_likelihood(said.logits / temperature, truth)
    probabilities = (sigmoid if multilabel else softmax)(said.logits / temperature)
    decided = (probabilities >= 0.5).astype(int) if multilabel else probabilities.argmax(1)
    loss = float(np.average(losses, weights=weights))
    return loss, score(truth, decided, probabilities)["balanced_accuracy"]


def _regress(
    features: Floats,
    targets: Floats,
    penalty: float,
    config: TrainingConfig,
    *,
    multilabel: bool,
    tolerance: float = SEARCH_TOLERANCE,
) -> tuple[Floats, Floats]:
    if not multilabel:
        return _regress_one(features, targets.argmax(1), targets.shape[1], penalty, config, tolerance)
    parts = [
        _regress_one(features, targets[:, label].astype(int), 2, penalty, config, tolerance)
        for label in range(targets.shape[1])
    ]
    # Two-class softmax rows become one sigmoid row.
    return np.stack([weight[1] - weight[0] for weight, _ in parts]), np.array(
        [bias[1] - bias[0] for _, bias in parts]
    )


def _regress_one(
    features: Floats,
    truth: npt.NDArray[np.integer],
    classes: int,
    penalty: float,
    config: TrainingConfig,
    tolerance: float,
) -> tuple[Floats, Floats]:
    """Coefficients (classes, d) and intercepts; a class without images keeps a low score."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    counts = np.bincount(truth, minlength=classes)
    there = np.flatnonzero(counts)
    weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, ABSENT)
    if len(there) < 2:
        bias[there] = 0.0
        return weight, bias
    weights = dict(enumerate(class_weights(counts, config.class_weighting)))
    model = LogisticRegression(
        C=penalty,
        class_weight={label: weights[label] for label in map(int, there)},
        max_iter=300,
        tol=tolerance,
        random_state=config.seed,
    )
    with warnings.catch_warnings():
        # With almost no regularisation the optimum is far off; stopping early regularises instead.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, truth)
    rows, offsets = np.asarray(model.coef_), np.atleast_1d(model.intercept_)
    if len(there) == 2:
        rows, offsets = np.concatenate([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
    weight[there], bias[there] = rows, offsets
    return weight, bias


def set_classifier(network: nn.Module, weight: Floats, bias: Floats) -> None:
    """Put a linear classifier's weight (labels, d) and bias (labels,) into the network."""
    import torch

    _, layer = classifier_of(network)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight).reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
