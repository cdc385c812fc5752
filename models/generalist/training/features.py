"""The frozen tower's features of augmented images, computed once for a whole stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ...._support.progress import Progress
from .example import ImageView
from .pixels import Images, augment, normalise

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import InternVLForConditionalGeneration

IMAGES_AT_ONCE = 128
STRENGTH = 0.7
"""Of the augmentation; the first variant is the plain image."""


class Features:
    """Tower features behind the pixel shuffle, before the projector.

    Args:
        model: whose tower is read.
        sources: images.
        side: of the tower's square.
        variants: augmented views per image; 1 for validation.
        seed: of the augmentation.
        dtype: that they are kept in; None is the model's. In bfloat16, as a GPU computes them, those of
            the bundled recipe take 9 GB by arithmetic.
    """

    def __init__(
        self,
        model: InternVLForConditionalGeneration,
        sources: Sequence[Images],
        side: int,
        variants: int,
        seed: int = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._variants, self._kept = variants, list[torch.Tensor]()
        with (
            Progress("image features", variants * sum(map(len, sources))) as progress,
            torch.inference_mode(),
        ):
            for number, images in enumerate(sources):
                for variant in range(variants):
                    view = _view(model, images, side, variant, seed * 7919 + number * 101 + variant)
                    if not variant:
                        shape = (len(view), variants, *view.shape[1:])
                        self._kept.append(torch.empty(shape, dtype=dtype or view.dtype, device=view.device))
                    self._kept[number][:, variant] = view
                    progress.advance(len(images))

    def of(self, view: ImageView, variant: int) -> Tensor:
        """Features of one view, (tokens, 4 · vision width)."""
        kept, variant = self._kept[view.source], variant % self._variants
        if view.share == 1:
            return kept[view.image, variant]
        return torch.lerp(kept[view.other, variant], kept[view.image, variant], view.share)


def shuffled_features(model: InternVLForConditionalGeneration, images: Tensor) -> Tensor:
    """Run the tower on normalised images (n, 3, side, side); returns (n, tokens, 4 · vision width)."""
    inner = model.model
    patches = inner.vision_tower(images.to(model.dtype)).last_hidden_state[:, 1:]
    side = int(patches.shape[1] ** 0.5)
    squares = inner.pixel_shuffle(
        patches.reshape(len(patches), side, side, -1), model.config.downsample_ratio
    )
    return squares.reshape(len(patches), -1, squares.shape[-1])


def batch_images(
    sources: Sequence[Images],
    views: Sequence[ImageView],
    side: int,
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Augmented, normalised images of views, (n, 3, side, side), on a device."""

    def pixels(view: ImageView, image: int) -> Tensor:
        return torch.from_numpy(sources[view.source].pixels[image]).float()

    seen = [
        pixels(view, view.image)
        if view.share == 1
        else torch.lerp(pixels(view, view.other), pixels(view, view.image), view.share)
        for view in views
    ]
    upright = torch.tensor([not sources[view.source].source.any_way_up for view in views])
    return augment(normalise(torch.stack(seen).to(device)), side, generator, STRENGTH, upright)


def _view(
    model: InternVLForConditionalGeneration, images: Images, side: int, variant: int, seed: int
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for start in range(0, len(images), IMAGES_AT_ONCE):
        pixels = torch.from_numpy(images.pixels[start : start + IMAGES_AT_ONCE])
        batch = normalise(pixels.to(model.device))
        upright = torch.full((len(batch),), not images.source.any_way_up)
        if variant or batch.shape[-1] != side:
            batch = augment(batch, side, generator, STRENGTH if variant else 0.0, upright)
        parts.append(shuffled_features(model, batch))
    return torch.cat(parts)
