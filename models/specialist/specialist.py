"""A specialist at work: images in; calibrated probabilities, decisions and embeddings out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..._support.lengths import lengths_of
from ...case import Opinion, TaskKind
from ...errors import SpecialistError
from .backbone import read_base
from .calibration import decide, sigmoid, softmax
from .card import SpecialistCard, Transform, Weights, read_card
from .network import (
    check_split,
    classifier_of,
    create_network,
    embedded,
    head,
    load_state,
    network_of_weights,
    place,
    registry_name,
    state_hash,
    trunk_hash,
)
from .weights import read_foreign_state, read_weights

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import nn

    from .feature_cache import FeatureCache

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Forward:
    """What one forward pass over n images gives."""

    probabilities: Floats
    """float32 (n, labels), calibrated; rows sum to one for single-label tasks."""
    embeddings: Floats
    """float32 (n, d), L2-normalised."""
    decisions: list[tuple[str, ...]]
    """The labels said of each image."""
    texts: tuple[str, ...] = ()
    """Draft reports, from report specialists."""


@cache
def _resizers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="gsco-resize")


class TimmSpecialist:
    """A timm classifier with its card.

    Args:
        card: what it is.
        network: a timm network whose classifier has one output per label of the card.
        device: where it runs.
    """

    def __init__(
        self, card: SpecialistCard, network: nn.Module, *, device: str | torch.device = "cpu"
    ) -> None:
        import torch

        if classifier_of(network)[1].weight.shape[0] != len(card.labels):
            raise SpecialistError(
                f"specialist {card.name!r} has {len(card.labels)} labels but another number of outputs"
            )
        self.card = card
        self.device = torch.device(device)
        self.network = place(network, self.device)
        self.cache: FeatureCache | None = None
        """Where ``features`` looks first; None computes all of them."""

    @classmethod
    def load(
        cls, folder: Path, *, bases: Path | None = None, device: str | torch.device = "cpu"
    ) -> TimmSpecialist:
        """Load a trained specialist.

        Args:
            folder: holds the card and the weights.
            bases: folder of shared backbones; None means the bundled one.
            device: where it will run.

        Raises:
            SpecialistError: card, weights or backbone are missing, damaged or do not fit together.
        """
        card = read_card(Path(folder), SpecialistCard)
        if card.kind is TaskKind.REPORT:
            from .report import ReportSpecialist

            return ReportSpecialist.load(folder, device=device)
        state = read_weights(Path(folder), card.weights)
        if card.base is not None:
            state |= read_base(card.base, bases, without=state.keys())
        network = network_of_weights(
            card.architecture,
            len(card.labels),
            state,
            source=f"the weights of {card.name!r}",
            image_size=card.transform.side,
        )
        return cls(card, network, device=device)

    @classmethod
    def from_timm(
        cls,
        architecture: str,
        labels: Sequence[str],
        *,
        task: str,
        name: str | None = None,
        checkpoint: Path | None = None,
        pretrained: bool = False,
        transform: Transform | None = None,
        multilabel: bool = False,
        device: str | torch.device = "cpu",
    ) -> TimmSpecialist:
        """Wrap a timm network or hub checkpoint that was trained elsewhere; it is not calibrated.

        Args:
            architecture: timm's name, or ``hf-hub:OWNER/NAME``.
            labels: in the order of the network's outputs.
            task: that it serves.
            name: of the specialist; None means the architecture's.
            checkpoint: a safetensors or torch file (tensors only); None uses timm's weights.
            pretrained: whether timm fetches weights from its hub.
            transform: None means timm's own size, mean and deviation for the architecture.
            multilabel: sigmoid outputs.
            device: where it will run.

        Raises:
            SpecialistError: the architecture is unknown or the checkpoint does not fit it.
        """
        size = transform.side if transform is not None else None
        network = create_network(architecture, len(labels), pretrained=pretrained, image_size=size)
        transform = transform or transform_of(network)
        if checkpoint is not None:
            load_state(network, read_foreign_state(checkpoint), source=checkpoint.name)
        name = name or architecture.split("/")[-1].split(":")[-1]
        card = SpecialistCard(
            name=name,
            task=task,
            kind=TaskKind.MULTILABEL if multilabel else TaskKind.DIAGNOSIS,
            architecture=registry_name(network, architecture),
            labels=tuple(labels),
            transform=transform,
            encoder=f"{task}/{name}",
            embedding_width=check_split(network, transform.side),
            source=checkpoint.name if checkpoint is not None else "",
            weights=Weights(sha256=state_hash(network.state_dict())),
        )
        return cls(card, network, device=device)

    @property
    def name(self) -> str:
        """The card's name."""
        return self.card.name

    @cached_property
    def trunk_key(self) -> str:
        """Hash of all that decides ``features``; two specialists that share it can share them."""
        return trunk_hash(self.network, self.card.transform)

    def features(self, images: Sequence[Image], batch_size: int = 64) -> Floats:
        """Run the trunk: embeddings float32 (n, d), not normalised."""
        if self.cache is not None and len(images):
            return self.cache.rows(self.trunk_key, images, lambda rest: self._computed(rest, batch_size))
        return self._computed(images, batch_size)

    def _computed(self, images: Sequence[Image], batch_size: int) -> Floats:
        import torch

        rows = []
        with torch.inference_mode():
            for start in range(0, len(images), batch_size):
                pixels = self._resized(images[start : start + batch_size])
                batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
                rows.append(embedded(self.network, batch, self.card.transform).cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, self.card.embedding_width), np.float32)

    def _resized(self, images: Sequence[Image]) -> npt.NDArray[np.uint8]:
        """Resize a batch, several images at a time: next to a small network this is half of the work."""
        resize = self.card.transform.resize
        return np.stack([resize(images[0])] if len(images) == 1 else list(_resizers().map(resize, images)))

    def logits(self, features: Floats) -> Floats:
        """Run the classifier on features: raw logits float32 (n, labels), not calibrated."""
        import torch

        with torch.inference_mode():
            return head(self.network, torch.from_numpy(features).to(self.device)).float().cpu().numpy()

    def head(self, features: Floats) -> Forward:
        """Turn features, this specialist's or those of one with the same ``trunk_key``, into results."""
        probabilities = calibrated(self.logits(features), self.card)
        return Forward(probabilities, normalised(features), decisions_of(probabilities, self.card))

    def embeddings_of(self, features: Floats) -> Floats:
        """Return the part of the features that is the embedding, not normalised."""
        return features

    def forward(self, images: Sequence[Image], batch_size: int = 64) -> Forward:
        """Look at images once: probabilities, embeddings and decisions.

        Args:
            images: any size, modes L or RGB.
            batch_size: images per pass of the network.
        """
        return self.head(self.features(images, batch_size))

    def predict(self, images: Sequence[Image], batch_size: int = 64) -> Floats:
        """Return calibrated probabilities, float32 (n, labels)."""
        return self.forward(images, batch_size).probabilities

    def embed(self, images: Sequence[Image], batch_size: int = 64) -> Floats:
        """Return L2-normalised embeddings, float32 (n, d)."""
        return self.forward(images, batch_size).embeddings

    def opinion(self, forward: Forward, index: int) -> Opinion:
        """Return what it says of one image of a forward pass."""
        return Opinion(
            specialist=self.card.name,
            architecture=self.card.architecture,
            labels=forward.decisions[index],
            probabilities={
                label: float(value)
                for label, value in zip(self.card.labels, forward.probabilities[index], strict=True)
            },
            reliability=self.card.reliability,
            held_out=self.card.held_out,
            version=self.card.weights.sha256[:12],
        )


def decisions_of(probabilities: Floats, card: SpecialistCard) -> list[tuple[str, ...]]:
    """Turn calibrated probabilities, (n, labels), into labels by the card's thresholds."""
    thresholds = (card.thresholds or (0.5,) * len(card.labels)) if card.multilabel else None
    return decide(probabilities, card.labels, thresholds)


def normalised(embeddings: Floats) -> Floats:
    """Return rows of length one, float32 (n, d)."""
    return (embeddings / np.maximum(lengths_of(embeddings), 1e-12)).astype(np.float32)


def calibrated(logits: Floats, card: SpecialistCard) -> Floats:
    """Turn raw logits into the card's calibrated probabilities, float32."""
    scaled = logits.astype(np.float64) / card.temperature + (np.asarray(card.bias) if card.bias else 0.0)
    return (sigmoid(scaled) if card.multilabel else softmax(scaled)).astype(np.float32)


def transform_of(network: nn.Module, size: int | None = None) -> Transform:
    """Return timm's own transform for a network, at its own size or another."""
    cfg = getattr(network, "pretrained_cfg", None) or {}
    return Transform(
        size=size or int(cfg.get("input_size", (3, 224, 224))[-1]),
        mean=tuple(cfg.get("mean", Transform().mean)),
        std=tuple(cfg.get("std", Transform().std)),
        interpolation="bilinear" if cfg.get("interpolation") == "bilinear" else "bicubic",
    )
