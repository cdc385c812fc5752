"""A folder of small labelled images whose classes can be told apart, and builds of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

Folder = Callable[..., Path]


def shape(label: str, seed: int) -> Image.Image:
    """A noisy grey picture with a disc, a bar, or nothing."""
    random = np.random.default_rng([seed, len(label)])
    image = Image.fromarray(random.integers(40, 90, (64, 64), dtype=np.uint8))
    draw = ImageDraw.Draw(image)
    x, y = (int(one) for one in random.integers(12, 34, 2))
    if label == "disc":
        draw.ellipse((x, y, x + 18, y + 18), fill=210)
    elif label == "bar":
        draw.rectangle((x - 8, y, x + 26, y + 5), fill=210)
    return image


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Makes a folder of classes; the same numbers make the same images."""

    def make(first: int = 0, **counts: int) -> Path:
        folder = tmp_path_factory.mktemp("shapes") / "images"
        for label, count in counts.items():
            (folder / label).mkdir(parents=True)
            for number in range(first, first + count):
                shape(label, number).save(folder / label / f"{label}-{number}.png")
        return folder

    return make
