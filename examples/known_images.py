"""Training images for these examples: the thumbnails of the bundled case store, with their labels."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from gsco import Filter, Settings
from gsco.tools.stores import open_store
from PIL import Image

TASK = "chest_xray"
LABELS = ("normal", "pneumonia")
SIDE = 28


def pixels(images: Sequence[Image.Image]) -> np.ndarray:
    """Return grey pixels from 0 to 1, float32 (n, SIDE, SIDE)."""
    small = [np.asarray(image.convert("L").resize((SIDE, SIDE)), np.float32) for image in images]
    return np.stack(small) / 255


def known_images() -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (n, SIDE, SIDE) and label numbers (n,) of the known chest X-rays."""
    store = open_store("", home=Settings().home)
    entries = [entry for entry in store.scan(Filter((TASK,))) if entry.thumbnail]
    store.close()
    images = [Image.open(io.BytesIO(entry.thumbnail or b"")) for entry in entries]
    return pixels(images), np.array([LABELS.index(entry.case.labels[0]) for entry in entries])
