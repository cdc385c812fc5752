"""From whatever a caller has of a case to a ``Case`` whose images are in the image store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..case import Case, ImageRef
from ..errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    from ..images import ImageStore

    Source = str | Path | bytes | Image | npt.NDArray[np.generic] | ImageRef
    """An image: a file, its bytes, pixels, or one that is in the image store already."""
    CaseSource = Source | Case | Sequence[Source]
    """A case: one image, several of the same patient and question, or a ``Case`` over stored images."""

READERS = 2
"""Threads that read images, so that reading never waits for models or they for it."""


@dataclass(frozen=True)
class CaseInput:
    """A case as it was given; what is not None goes before the fields of a ``Case``."""

    image: CaseSource
    question: str | None = None
    context: str | None = None
    group: str | None = None


class CaseReader:
    """Reads images in threads of its own.

    Args:
        images: where they are put.
    """

    def __init__(self, images: ImageStore) -> None:
        self.store = images
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="gsco-images")

    async def case(self, asked: CaseInput) -> Case:
        """Make a case of what was given. Where it has no id of its own it gets its first image's.

        Raises:
            ImageError: an image cannot be used.
            ConfigurationError: there is no image.
        """
        given = asked.image
        changes: dict[str, str] = {
            name: value
            for name in ("question", "context", "group")
            if (value := getattr(asked, name)) is not None
        }
        if isinstance(given, Case):
            return given.model_copy(update=changes) if changes else given
        images = await self.images(several(given))
        if not images:
            raise ConfigurationError("a case needs at least one image")
        return Case(id=images[0].id, images=images, **changes)

    async def images(self, sources: Sequence[Source]) -> tuple[ImageRef, ...]:
        """Put images into the store, in order.

        Raises:
            ImageError: one of them cannot be used.
        """
        return tuple([await self._image(source) for source in sources])

    def close(self) -> None:
        """Let the threads end."""
        self._readers.shutdown(wait=True, cancel_futures=True)

    async def _image(self, source: Source | ImageRef) -> ImageRef:
        if isinstance(source, ImageRef):
            return source
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.store.put, source)


def several(given: Source | Sequence[Source]) -> Sequence[Source]:
    """Return images as a list, whether one was given or several."""
    return given if isinstance(given, list | tuple) else (given,)  # type: ignore[return-value]
