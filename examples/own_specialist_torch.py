"""A torch module as a specialist; its last hidden layer is the embedding.

Run it with ``python examples/own_specialist_torch.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from gsco import GSCo
from gsco.models.mini.samples import samples
from known_images import LABELS, TASK, known_images, pixels
from PIL.Image import Image
from torch import nn


class Network(nn.Module):
    """Two convolutions, the mean over the image, and a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.AdaptiveAvgPool2d(4), nn.Flatten()),
        )
        self.head = nn.Linear(32 * 16, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (n, labels)."""
        return self.head(self.trunk(x))


class TorchSpecialist:
    """A trained module. With ``encoder`` and ``embed`` it could also find similar cases."""

    name, task, labels, version = "small-cnn", TASK, LABELS, "1"
    encoder = f"{TASK}/small-cnn"

    def __init__(self, network: Network) -> None:
        self.network = network.eval()

    @torch.inference_mode()
    def predict(self, images: Sequence[Image]) -> np.ndarray:
        """Return probabilities, (n, labels)."""
        return self.network(tensor(images)).softmax(dim=1).numpy()

    @torch.inference_mode()
    def embed(self, images: Sequence[Image]) -> np.ndarray:
        """Return embeddings, (n, 512)."""
        return self.network.trunk(tensor(images)).numpy()


def tensor(images: Sequence[Image]) -> torch.Tensor:
    """Return the network's input, float32 (n, 1, SIDE, SIDE)."""
    return torch.from_numpy(pixels(images))[:, None]


def train(epochs: int = 12) -> Network:
    """Train the network on the known cases."""
    torch.manual_seed(0)
    x, y = known_images()
    inputs, targets = torch.from_numpy(x)[:, None], torch.from_numpy(y)
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[batch]), targets[batch]).backward()
            optimizer.step()
    return network


def main() -> None:
    """Train it, add it to the bundled specialists and diagnose one image."""
    with GSCo.from_settings(specialists=[TorchSpecialist(train())]) as gsco:
        diagnosis = gsco.diagnose(samples(TASK)[3].path, task=TASK)
    print(f"decision: {diagnosis.label}, confidence {diagnosis.confidence:.2f}")
    for opinion in diagnosis.evidence.opinions:
        print(f"{opinion.specialist}: {opinion.labels[0]} {opinion.probabilities[opinion.labels[0]]:.2f}")


if __name__ == "__main__":
    main()
