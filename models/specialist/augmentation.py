"""Random changes of training images, on whole batches of tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ...case import Record

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Augmentation(Record):
    """How far training images are changed. Zero everywhere changes nothing."""

    flip: Share = 0.0
    """Probability of a left-right flip."""
    vertical_flip: Share = 0.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest angle, in degrees either way."""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The picture is scaled by 1 - zoom … 1 + zoom / 2."""
    shift: Share = 0.0
    """Largest shift, as a share of the side."""
    brightness: Share = 0.0
    contrast: Share = 0.0
    colour: Share = 0.0
    """Gain of single channels, for stained or photographed tissue."""
    noise: Share = 0.0
    """Largest standard deviation of Gaussian noise, white being one."""
    erase: Share = 0.0
    """Probability that a grey rectangle of up to a third of each side covers something."""

    @property
    def geometric(self) -> bool:
        """Whether pixels move."""
        return any((self.flip, self.vertical_flip, self.rotation, self.zoom, self.shift))


LEVELS: dict[str, Augmentation] = {
    "none": Augmentation(),
    "light": Augmentation(flip=0.5, rotation=8, zoom=0.12, shift=0.06, brightness=0.1, contrast=0.15),
    "strong": Augmentation(
        flip=0.5,
        rotation=15,
        zoom=0.25,
        shift=0.12,
        brightness=0.15,
        contrast=0.3,
        colour=0.1,
        noise=0.03,
        erase=0.25,
    ),
}

Level = Literal["none", "light", "strong"]


def augment(pixels: Tensor, amount: Augmentation, generator: torch.Generator) -> Tensor:
    """Change a batch of images at random.

    Args:
        pixels: uint8 (n, 3, s, s).
        amount: how far.
        generator: every random number comes from it.

    Returns:
        float32 (n, 3, s, s) in the range 0–255.
    """
    batch = pixels.float()
    if amount.geometric:
        batch = _move(batch, amount, generator)
    batch = _recolour(batch, amount, generator)
    if amount.noise:
        spread = _uniform(len(batch), 0, amount.noise * 255, generator, batch.device).view(-1, 1, 1, 1)
        import torch

        batch = batch + spread * torch.randn(batch.shape, generator=generator, device=generator.device).to(
            batch.device
        )
    if amount.erase:
        batch = _erase(batch, amount.erase, generator)
    return batch.clamp_(0, 255)


def mix(batch: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend each image and its target with another of the batch (mixup), one weight per batch.

    Args:
        batch: (n, 3, s, s).
        targets: (n, classes), one-hot or multi-hot.
        alpha: of the Beta distribution that the weight is drawn from.
        generator: every random number comes from it.
    """
    import numpy as np
    import torch

    seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
    weight = float(np.random.default_rng(seed).beta(alpha, alpha))
    order = torch.randperm(len(batch), generator=generator, device=generator.device).to(batch.device)
    return weight * batch + (1 - weight) * batch[order], weight * targets + (1 - weight) * targets[order]


def _uniform(n: int, low: float, high: float, generator: torch.Generator, device: torch.device) -> Tensor:
    import torch

    drawn = torch.rand(n, generator=generator, device=generator.device).to(device)
    return low + (high - low) * drawn


def _move(batch: Tensor, amount: Augmentation, generator: torch.Generator) -> Tensor:
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    n, device = len(batch), batch.device
    angle = _uniform(n, -1, 1, generator, device) * math.radians(amount.rotation)
    # The matrix maps output to input, hence the inverse of the zoom.
    scale = 1 / _uniform(n, 1 - amount.zoom, 1 + amount.zoom / 2, generator, device)
    across = torch.where(_uniform(n, 0, 1, generator, device) < amount.flip, -1.0, 1.0)
    down = torch.where(_uniform(n, 0, 1, generator, device) < amount.vertical_flip, -1.0, 1.0)
    matrix = torch.zeros(n, 2, 3, device=device)
    matrix[:, 0, 0] = scale * angle.cos() * across
    matrix[:, 0, 1] = -scale * angle.sin() * down
    matrix[:, 1, 0] = scale * angle.sin() * across
    matrix[:, 1, 1] = scale * angle.cos() * down
    matrix[:, :, 2] = _uniform(2 * n, -2 * amount.shift, 2 * amount.shift, generator, device).view(n, 2)
    grid = affine_grid(matrix, list(batch.shape), align_corners=False)
    return grid_sample(batch, grid, padding_mode="border", align_corners=False)


def _recolour(batch: Tensor, amount: Augmentation, generator: torch.Generator) -> Tensor:
    n, device = len(batch), batch.device
    if amount.contrast:
        gain = _uniform(n, 1 - amount.contrast, 1 + amount.contrast, generator, device).view(-1, 1, 1, 1)
        mean = batch.mean((1, 2, 3), keepdim=True)
        batch = (batch - mean) * gain + mean
    if amount.brightness:
        batch = batch + 255 * _uniform(n, -amount.brightness, amount.brightness, generator, device).view(
            -1, 1, 1, 1
        )
    if amount.colour:
        batch = batch * _uniform(3 * n, 1 - amount.colour, 1 + amount.colour, generator, device).view(
            n, 3, 1, 1
        )
    return batch


def _erase(batch: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    import torch

    n, _, height, width = batch.shape
    drawn = _uniform(5 * n, 0, 1, generator, batch.device).view(5, n, 1, 1)
    rows = torch.arange(height, device=batch.device).view(1, -1, 1) / height
    columns = torch.arange(width, device=batch.device).view(1, 1, -1) / width
    inside = ((rows - drawn[0]).abs() < drawn[2] / 6) & ((columns - drawn[1]).abs() < drawn[3] / 6)
    inside &= drawn[4] < probability
    return batch.masked_fill(inside.unsqueeze(1), 127.5)
