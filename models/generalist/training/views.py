"""Augmented views of the training images, for the networks that learn their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from .config import GeneralistTraining, Teacher, Vision
from .pixels import Images, augment, normalise

if TYPE_CHECKING:
    from torch import Tensor

BATCH_OF_EVALUATION = 128


class Labeller(Protocol):
    """A network whose features a linear head turns into the labels of all tasks together."""

    labels: nn.Linear

    def __call__(self, images: Tensor) -> Tensor:
        """Features (n, width) of normalised images."""
        ...


@dataclass(frozen=True)
class ViewBatch:
    """One batch of views.

    Attributes:
        images: normalised, (n, 3, side, side).
        targets: index among the labels of all tasks, (n,).
        others: of the image that each is mixed with.
        shares: of the first image, (n,); 1 where nothing is mixed.
    """

    images: Tensor
    targets: Tensor
    others: Tensor
    shares: Tensor

    def loss(self, logits: Tensor, smoothing: float) -> Tensor:
        """Cross-entropy of the labels, those of both images where two are mixed."""
        first, second = (
            functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
            for labels in (self.targets, self.others)
        )
        return (self.shares * first + (1 - self.shares) * second).mean()


class Views:
    """Draws augmented batches; the same step always gives the same batch.

    Args:
        config: image size, seed, device.
        training: images of all sources.
        settings: batch, epochs, balance, strength of the augmentation, share of mixed images.
        channel: of random numbers, one per stage.
    """

    def __init__(
        self, config: GeneralistTraining, training: Sequence[Images], settings: Vision | Teacher, channel: int
    ) -> None:
        self._settings, self._seed, self._channel = settings, config.seed, channel
        self._side, self._device = config.architecture.image_size, config.place
        sizes = [len(images) for images in training]
        # On a GPU all images lie there, for the time of the stage.
        self._pixels = [torch.from_numpy(images.pixels) for images in training]
        if self._device.type != "cpu":
            self._pixels = [torch.cat(self._pixels).to(self._device)]
        self._starts = np.cumsum([0, *map(len, self._pixels)])
        self._upright = torch.cat(
            [
                torch.full((size,), not images.source.any_way_up)
                for size, images in zip(sizes, training, strict=True)
            ]
        )
        self._source = np.repeat(np.arange(len(sizes)), sizes)
        offsets = np.cumsum([0, *(len(images.labels) for images in training)])
        self._targets = np.concatenate(
            [i.targets + offset for i, offset in zip(training, offsets, strict=False)]
        )
        counts = np.bincount(self._targets)[self._targets]
        chances = counts ** (settings.balance - 1.0)
        self._chances = np.cumsum(chances / chances.sum())
        self.steps = settings.steps(len(self._targets))

    def draw(self, step: int) -> ViewBatch:
        """The views of one step, on the training's device."""
        random = np.random.default_rng([self._seed, self._channel, step])
        batch = self._settings.batch
        # Stratified draws: evenly spaced quantiles with one jitter each keep a batch's mixture steady.
        places = np.searchsorted(self._chances, (np.arange(batch) + random.random(batch)) / batch)
        chosen = np.minimum(places, len(self._targets) - 1)
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        images = augment(
            normalise(self._gathered(chosen)),
            self._side,
            generator,
            self._settings.augmentation,
            self._upright[torch.from_numpy(chosen)],
        )
        targets = torch.from_numpy(self._targets[chosen]).to(self._device)
        partners, shares = self._mixed(random, self._source[chosen])
        partners, shares = partners.to(self._device), shares.to(self._device)
        if self._settings.mixed:
            images = torch.lerp(images[partners], images, shares[:, None, None, None])
        return ViewBatch(images, targets, targets[partners], shares)

    def _gathered(self, chosen: npt.NDArray[np.int64]) -> Tensor:
        if len(self._pixels) == 1:
            return self._pixels[0][torch.from_numpy(chosen).to(self._device)]
        parts = np.searchsorted(self._starts, chosen, side="right") - 1
        return torch.stack(
            [self._pixels[part][i - self._starts[part]] for part, i in zip(parts, chosen, strict=True)]
        )

    def _mixed(self, random: np.random.Generator, sources: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """For each image another one of the batch, of its source where there is one, and its own share."""
        order = np.lexsort((random.random(len(sources)), sources))
        partners = np.empty(len(order), dtype=np.int64)
        partners[order] = np.roll(order, 1)
        mixed = random.random(len(order)) < self._settings.mixed
        shares = np.where(mixed, random.random(len(order)), 1.0)
        return torch.from_numpy(partners), torch.from_numpy(shares.astype(np.float32))


def predictions(network: Labeller, sources: Sequence[Images]) -> list[npt.NDArray[np.int64]]:
    """Predicted label index of every image, per source, chosen among the source's own labels."""
    found, offset, device = [], 0, network.labels.weight.device
    for images in sources:
        own = slice(offset, offset + len(images.labels))
        offset += len(images.labels)
        parts = []
        for start in range(0, len(images), BATCH_OF_EVALUATION):
            pixels = torch.from_numpy(images.pixels[start : start + BATCH_OF_EVALUATION]).to(device)
            parts.append(network.labels(network(normalise(pixels)))[:, own].argmax(1).cpu().numpy())
        found.append(np.concatenate(parts))
    return found


def accuracies(network: Labeller, sources: Sequence[Images]) -> dict[str, float]:
    """Balanced accuracy per task."""
    scores = {}
    for images, predicted in zip(sources, predictions(network, sources), strict=True):
        recalls = [
            np.mean(predicted[images.targets == label] == label) for label in np.unique(images.targets)
        ]
        scores[images.source.name] = float(np.mean(recalls))
    return scores


def percents(scores: Mapping[str, float]) -> str:
    """Shares in percent, in one line."""
    return " ".join(f"{name} {100 * value:.1f}%" for name, value in scores.items())
