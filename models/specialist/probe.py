"""The fast path for a frozen backbone: embed every image once, then a logistic regression."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...disk import writing
from .calibration import sigmoid, softmax
from .metrics import score
from .network import classifier_of, normalise, place, trunk
from .pixels import ImageTensors
from .progress import Progress
from .recipe import TrainingConfig
from .weighting import class_weights

if TYPE_CHECKING:
    import torch
    from torch import nn

Floats = npt.NDArray[np.floating]

CHUNK = 512
"""Images per cached file of embeddings: what an interruption can cost."""

PENALTIES = tuple(float(value) for value in np.logspace(-5, 1, 13))
"""The candidates for C, the inverse strength of the regularisation."""


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
                temporary = file.with_name(f".{file.stem}.{os.getpid()}.npy")
                rows = _embed(network, pixels, np.arange(start, stop), batch_size, device)
                with writing(file):
                    np.save(temporary, rows, allow_pickle=False)
                    temporary.replace(file)
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
            rows.append(trunk(network, normalise(batch, pixels.transform)).float().cpu().numpy())
    return np.concatenate(rows)


def fit_probe(
    train: Floats,
    train_targets: Floats,
    validation: Floats,
    validation_targets: Floats,
    config: TrainingConfig,
    *,
    multilabel: bool,
) -> tuple[Floats, Floats, dict[str, float]]:
    """Fit a logistic regression and choose its regularisation on the validation split.

    Args:
        train: embeddings (n, d).
        train_targets: one-hot or multi-hot (n, labels).
        validation: embeddings (m, d).
        validation_targets: (m, labels).
        config: class weighting, criterion and seed are used.
        multilabel: one regression per label instead of one for all.

    Returns:
        The classifier's weight (labels, d) and bias (labels,), and numbers for the card's history.
    """
    mean, spread = train.mean(0), train.std(0) + 1e-6
    scaled, scaled_validation = (train - mean) / spread, (validation - mean) / spread
    best_value, best = -np.inf, None
    for penalty in PENALTIES:
        weight, bias = _regress(scaled, train_targets, penalty, config, multilabel=multilabel)
        loss, balanced = _judge(
            scaled_validation @ weight.T + bias, validation_targets, multilabel=multilabel
        )
        value = -loss if config.criterion == "loss" else balanced - 1e-6 * loss
        if value > best_value:
            numbers = {"c": penalty, "val_loss": loss, "val_balanced_accuracy": balanced}
            best_value, best = value, (weight, bias, numbers)
    assert best is not None
    weight, bias, numbers = best
    folded = weight / spread
    return folded.astype(np.float32), (bias - folded @ mean).astype(np.float32), numbers


def _judge(logits: Floats, targets: Floats, *, multilabel: bool) -> tuple[float, float]:
    if multilabel:
        probabilities = sigmoid(logits)
        loss = float((np.logaddexp(0, logits) - targets * logits).mean())
        return loss, score(targets.astype(int), (probabilities >= 0.5).astype(int), probabilities)[
            "balanced_accuracy"
        ]
    probabilities = softmax(logits)
    truth = targets.argmax(1)
    # Classes count alike, whatever their share of the validation split.
    of_class = [-np.log(probabilities[truth == label, label] + 1e-12).mean() for label in np.unique(truth)]
    return float(np.mean(of_class)), score(truth, probabilities.argmax(1), probabilities)["balanced_accuracy"]


def _regress(
    features: Floats, targets: Floats, penalty: float, config: TrainingConfig, *, multilabel: bool
) -> tuple[Floats, Floats]:
    if not multilabel:
        return _regress_one(features, targets.argmax(1), penalty, config)
    parts = [
        _regress_one(features, targets[:, label].astype(int), penalty, config)
        for label in range(targets.shape[1])
    ]
    # Two-class softmax rows become one sigmoid row.
    return np.stack([weight[1] - weight[0] for weight, _ in parts]), np.array(
        [bias[1] - bias[0] for _, bias in parts]
    )


def _regress_one(
    features: Floats, truth: npt.NDArray[np.integer], penalty: float, config: TrainingConfig
) -> tuple[Floats, Floats]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weights = dict(enumerate(class_weights(np.bincount(truth), config.class_weighting)))
    model = LogisticRegression(
        C=penalty, class_weight=weights, max_iter=300, tol=1e-4, random_state=config.seed
    )
    with warnings.catch_warnings():
        # With almost no regularisation the optimum is far off; stopping early regularises instead.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, truth)
    weight, bias = np.asarray(model.coef_), np.atleast_1d(model.intercept_)
    if len(weight) == 1:
        return np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    return weight, bias


def set_classifier(network: nn.Module, weight: Floats, bias: Floats) -> None:
    """Put a linear classifier's weight (labels, d) and bias (labels,) into the network."""
    import torch

    _, layer = classifier_of(network)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight).reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
