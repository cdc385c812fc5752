"""Embeddings of training and validation images by a frozen backbone, computed once and kept on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ....errors import ConfigurationError, ImageError
from ...specialist.progress import Progress

if TYPE_CHECKING:
    from PIL.Image import Image

    from .pixels import Images

Embed = Callable[[Sequence["Image"]], npt.NDArray[np.float32]]
"""Images → L2-normalised embeddings (n, d), for example ``Specialist.embed``."""

CHUNK = 256
"""Images per file while the work is going on: what an interruption can cost."""


def extract(images: Images, split: str, embed: Embed, folder: Path) -> npt.NDArray[np.float32]:
    """Embed one source's images of one split, going on from what is there.

    Args:
        images: from ``read_images``; the files are read again, in the encoder's own resolution.
        split: ``train`` or ``val``.
        embed: the encoder.
        folder: of one encoder; the array is ``TASK-HASH-SPLIT.npy`` in it.

    Returns:
        float32 (n, d), in the order of ``images.items``.

    Raises:
        ConfigurationError: an image cannot be read, or the encoder returns another number of rows.
    """
    path = _path(folder, images, split)
    if path.is_file():
        return _read(path, len(images))
    parts = folder / f".{path.stem}"
    parts.mkdir(parents=True, exist_ok=True)
    chunks = []
    with Progress(f"embed {images.source.name} {split}", len(images)) as progress:
        for start in range(0, len(images), CHUNK):
            chunk = parts / f"{start:08d}.npy"
            if not chunk.is_file():
                _write(chunk, _embedded(images, start, embed))
            chunks.append(np.load(chunk, allow_pickle=False))
            progress.advance(len(chunks[-1]))
    whole = np.concatenate(chunks).astype(np.float32)
    _write(path, whole)
    for chunk in parts.iterdir():
        chunk.unlink()
    parts.rmdir()
    return whole


def _path(folder: Path, images: Images, split: str) -> Path:
    return folder / f"{images.source.name}-{images.sha256[:12]}-{split}.npy"


def _read(path: Path, count: int) -> npt.NDArray[np.float32]:
    found = np.load(path, allow_pickle=False)
    if found.ndim != 2 or len(found) != count:
        raise ConfigurationError(f"{path} holds {found.shape} where {count} embeddings are needed; remove it")
    return found


def _embedded(images: Images, start: int, embed: Embed) -> npt.NDArray[np.float32]:
    from ....images import read_image

    try:
        batch = [read_image(item.path) for item in images.items[start : start + CHUNK]]
    except ImageError as error:
        raise ConfigurationError(f"an image of {images.source.name} cannot be used: {error}") from error
    found = embed(batch)
    if len(found) != len(batch):
        raise ConfigurationError(f"the encoder gave {len(found)} embeddings for {len(batch)} images")
    return found


def _write(path: Path, array: npt.NDArray[np.float32]) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("wb") as file:
        np.save(file, array)
    fresh.replace(path)
