"""A data set's images as tensors: decoded once if memory allows, else on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...errors import ImageError, SpecialistError
from .card import Transform

if TYPE_CHECKING:
    from torch import Tensor

    from ..._support.progress import Progress

DECODERS = 4


class ImageTensors:
    """Resized RGB images by index.

    Args:
        paths: image files.
        transform: how they are resized.
        memory: bytes that decoded images may take; more are decoded at each access.
    """

    def __init__(self, paths: Sequence[Path], transform: Transform, *, memory: int) -> None:
        self.paths = tuple(paths)
        self.transform = transform
        self._kept: npt.NDArray[np.uint8] | None = None
        self._hashes: dict[Path, str] = {}
        self._fits = len(paths) * transform.side**2 * 3 <= memory

    def __len__(self) -> int:
        return len(self.paths)

    def seen_by(self, transform: Transform) -> ImageTensors:
        """The same images under a transform that resizes them alike; what is known of them is shared."""
        other = ImageTensors(self.paths, transform, memory=0)
        other._kept, other._hashes = self._kept, self._hashes
        return other

    def load(self, progress: Progress | None = None) -> None:
        """Decode everything now, if it fits."""
        if not self._fits or self._kept is not None:
            return
        kept = np.empty((len(self), self.transform.side, self.transform.side, 3), dtype=np.uint8)
        with ThreadPoolExecutor(DECODERS) as pool:
            for index, pixels in enumerate(pool.map(self._decode, self.paths)):
                kept[index] = pixels
                if progress is not None:
                    progress.advance()
        self._kept = kept

    def hashes(self) -> list[str]:
        """``pixel_hash`` of every image; those that were not decoded yet are decoded.

        Raises:
            SpecialistError: a file is not a usable image.
        """
        missing = [path for path in self.paths if path not in self._hashes]
        with ThreadPoolExecutor(DECODERS) as pool:
            for _ in pool.map(self._decode, missing):
                pass
        return [self._hashes[path] for path in self.paths]

    def batch(self, indices: npt.NDArray[np.integer]) -> Tensor:
        """Return images as uint8 (n, 3, size, size).

        Raises:
            SpecialistError: a file is not a usable image.
        """
        import torch

        if self._kept is not None:
            pixels = self._kept[indices]
        else:
            with ThreadPoolExecutor(DECODERS) as pool:
                pixels = np.stack(list(pool.map(self._decode, [self.paths[index] for index in indices])))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def _decode(self, path: Path) -> npt.NDArray[np.uint8]:
        from ...images import pixel_hash, read_image

        try:
            image = read_image(path)
            if path not in self._hashes:
                self._hashes[path] = pixel_hash(image)
            return self.transform.resize(image)
        except ImageError as error:
            raise SpecialistError(f"image {path.name} of the data set cannot be used: {error}") from error
