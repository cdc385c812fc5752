"""Cases to time: bundled sample images, each time cut a little differently, so that nothing is remembered."""

from __future__ import annotations

import io
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...models.mini import bundled

if TYPE_CHECKING:
    from PIL import Image

_seeds = count()


def fresh_cases(number: int, task: str) -> list[bytes]:
    """Make JPEG files, in memory, of images that nobody has seen yet.

    Args:
        number: how many.
        task: whose bundled samples they are cut from.
    """
    from PIL import Image

    paths = sorted(Path(bundled("samples") / task).glob("*.jpg"))
    pictures = [Image.open(path).convert("RGB") for path in paths]
    return [_cut(pictures[seed % len(pictures)], seed) for seed in islice(_seeds, number)]


def _cut(picture: Image.Image, seed: int) -> bytes:
    """Cut up to 4 % off each side and scale back, so that size and content stay what they were."""
    rng = np.random.default_rng(seed)
    left, top, right, bottom = rng.uniform(0, 0.04, 4) * (picture.size * 2)
    box = (left, top, picture.width - right, picture.height - bottom)
    buffer = io.BytesIO()
    picture.resize(picture.size, box=box).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
