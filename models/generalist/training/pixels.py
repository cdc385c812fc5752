"""Training images: decoded once into one array per data set, augmented as a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from ...._support.progress import Progress
from ....disk import replacing
from ....errors import ConfigurationError, ImageError
from ...dataset import Dataset, Item, read_dataset
from .architecture import MEAN, STD
from .config import GeneralistTraining, Source

if TYPE_CHECKING:
    from torch import Tensor

Pixels = npt.NDArray[np.uint8]

MARGIN = 8 / 7
"""Training images are kept this much larger than the tower's square, so that zooming in stays sharp."""
DECODERS = 4
SPLITS = ("train", "val")
"""Test images are never read."""


@dataclass(frozen=True)
class Images:
    """One source's images of one split."""

    source: Source
    labels: tuple[str, ...]
    """The data set's labels, sorted."""
    items: tuple[Item, ...]
    targets: npt.NDArray[np.int64]
    """Index into ``labels``, one per image."""
    pixels: Pixels = field(repr=False)
    """(n, size, size, 3)"""
    sha256: str = ""
    """Of the data set."""

    def __len__(self) -> int:
        return len(self.items)


def read_images(config: GeneralistTraining) -> dict[str, list[Images]]:
    """Read all sources, decoding into the work folder what is not there yet.

    Returns:
        For ``train`` and ``val``, one entry per source, in the configuration's order. Training images
        are a bit larger than the tower's square, validation images exactly of its size.

    Raises:
        ConfigurationError: a data set cannot be read, is multi-label, or lacks a split.
    """
    size = config.architecture.image_size
    found: dict[str, list[Images]] = {split: [] for split in SPLITS}
    for source in config.sources:
        dataset = read_dataset(config.data / source.folder, seed=config.seed)
        if dataset.multilabel:
            raise ConfigurationError(
                f"data set {dataset.name!r} is multi-label; this recipe learns single labels"
            )
        dataset.check_trainable()
        for split in SPLITS:
            side = round(size * MARGIN) if split == "train" else size
            items = tuple(dataset.split(split))
            targets = np.array([dataset.labels.index(item.labels[0]) for item in items], dtype=np.int64)
            pixels = decoded(dataset, split, side, config.work / "pixels")
            found[split].append(Images(source, dataset.labels, items, targets, pixels, dataset.sha256))
    return found


def decoded(dataset: Dataset, split: str, side: int, folder: Path) -> Pixels:
    """Images of one split as squares, uint8 (n, side, side, 3); decoded once and kept in the folder."""
    path = folder / f"{dataset.name}-{dataset.sha256[:12]}-{split}-{side}.npy"
    if not path.is_file():
        with replacing(path) as fresh:
            np.save(fresh, np.stack(list(_decode(dataset.split(split), side, f"{dataset.name} {split}"))))
    return np.load(path, allow_pickle=False)


def _decode(items: Sequence[Item], side: int, title: str) -> Iterator[Pixels]:
    def one(item: Item) -> Pixels:
        from torchvision.transforms.v2 import functional

        from ....images import read_image

        try:
            image = functional.pil_to_tensor(read_image(item.path).convert("RGB"))
        except ImageError as error:
            raise ConfigurationError(f"image {item.path.name} cannot be used: {error}") from error
        mode = functional.InterpolationMode.BICUBIC
        return (
            functional.resize(image, [side, side], interpolation=mode, antialias=True)
            .permute(1, 2, 0)
            .numpy()
        )

    with ThreadPoolExecutor(DECODERS) as pool, Progress(title, len(items)) as progress:
        for pixels in pool.map(one, items):
            progress.advance()
            yield pixels


def normalise(pixels: Tensor) -> Tensor:
    """Uint8 or 0–255 float (n, size, size, 3) → float32 (n, 3, size, size), as the processor makes it."""
    mean = torch.tensor(MEAN, device=pixels.device)[:, None, None] * 255
    std = torch.tensor(STD, device=pixels.device)[:, None, None] * 255
    return (pixels.permute(0, 3, 1, 2).float() - mean) / std


def augment(
    images: Tensor,
    side: int,
    generator: torch.Generator,
    strength: float = 1.0,
    upright: Tensor | None = None,
) -> Tensor:
    """Turn, zoom, shift, mirror, change light, and hide a patch of each image.

    Args:
        images: normalised, (n, 3, larger, larger).
        side: of the square to cut out; at zero strength the whole image is scaled to it.
        generator: source of the random numbers, on the CPU: they are the same for every device.
        strength: 1 turns by up to 15°, zooms by 0.75 to 1.1, shifts by 12 %, changes contrast and
            brightness by 30 % and hides a patch of one image in three.
        upright: images that must not be mirrored top to bottom, bool (n,); None means all.

    Returns:
        (n, 3, side, side)
    """
    count, device = len(images), images.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=generator).to(device)

    zoom, angle = 1 + strength * uniform(-0.25, 0.1), strength * uniform(-0.26, 0.26)
    mirrored = torch.where(uniform(0, 1) < 0.5 * min(1.0, strength * 2), -1.0, 1.0)
    turned = torch.where(uniform(0, 1) < 0.5 * min(1.0, strength * 2), -1.0, 1.0)
    if upright is None:
        turned = torch.ones(count, device=device)
    else:
        turned[upright.to(device)] = 1.0
    matrix = torch.zeros(count, 2, 3, device=device)
    matrix[:, 0, 0], matrix[:, 0, 1] = zoom * angle.cos() * mirrored, -zoom * angle.sin()
    matrix[:, 1, 0], matrix[:, 1, 1] = zoom * angle.sin() * mirrored, zoom * angle.cos() * turned
    matrix[:, 0, 2], matrix[:, 1, 2] = strength * uniform(-0.12, 0.12), strength * uniform(-0.12, 0.12)
    grid = torch.nn.functional.affine_grid(matrix, [count, 3, side, side], align_corners=False)
    images = torch.nn.functional.grid_sample(images, grid, align_corners=False, padding_mode="border")
    contrast, brightness = 1 + strength * uniform(-0.3, 0.3), strength * uniform(-0.4, 0.4)
    images = images * contrast[:, None, None, None] + brightness[:, None, None, None]
    return _hide(images, uniform(0, 1) < 0.33 * strength, uniform(0.15, 0.4), uniform(0, 1), uniform(0, 1))


def _hide(images: Tensor, chosen: Tensor, extent: Tensor, row: Tensor, column: Tensor) -> Tensor:
    side = images.shape[-1]
    place = torch.arange(side, device=images.device) / side
    top, left = row * (1 - extent), column * (1 - extent)
    rows = (place >= top[:, None]) & (place < (top + extent)[:, None])
    columns = (place >= left[:, None]) & (place < (left + extent)[:, None])
    hidden = rows[:, None, :, None] & columns[:, None, None, :] & chosen[:, None, None, None]
    return images.masked_fill(hidden, 0.0)
