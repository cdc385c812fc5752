"""A data set's images as a stream of small batches, and what indexing makes of one image."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..case import Record
from ..errors import ImageError
from ..models.dataset import Item

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..images import ImageLimits

DECODERS = 4
PIXELS_AT_ONCE = 64_000_000
"""A batch is closed early when its decoded images are larger than this together."""


class Broken(Record):
    """An image that could not be read."""

    path: str
    reason: str


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image of a data set."""

    item: Item
    image: Image
    sha256: str


def read_pictures(
    items: Sequence[Item], folder: Path, batch_size: int, limits: ImageLimits | None
) -> Iterator[tuple[list[DecodedImage], list[Broken]]]:
    """Yield batches of decoded images, and the failures between them; only one batch is in memory."""
    pictures: list[DecodedImage] = []
    broken: list[Broken] = []
    pixels, waiting = 0, iter(items)
    with ThreadPoolExecutor(DECODERS) as pool:
        while few := list(islice(waiting, DECODERS)):
            for result in pool.map(lambda item: _decode(item, folder, limits), few):
                if isinstance(result, Broken):
                    broken.append(result)
                else:
                    pictures.append(result)
                    pixels += result.image.width * result.image.height
            if len(pictures) + len(broken) >= batch_size or pixels >= PIXELS_AT_ONCE:
                yield pictures, broken
                pictures, broken, pixels = [], [], 0
    if pictures or broken:
        yield pictures, broken


def _decode(item: Item, folder: Path, limits: ImageLimits | None) -> DecodedImage | Broken:
    from ..images import ImageLimits, pixel_hash, read_image

    try:
        image = read_image(item.path, limits=limits or ImageLimits())
    except ImageError as error:
        return Broken(path=relative_name(item.path, folder), reason=str(error))
    return DecodedImage(item, image, pixel_hash(image))


def relative_name(path: Path, folder: Path) -> str:
    """How reports and sources name an image: its path inside the data set."""
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
    return name.encode("utf-8", "replace").decode("utf-8")  # a name that is not UTF-8 fits no record


def thumbnail_of(image: Image, size: int) -> bytes | None:
    """A small JPEG without whatever else the file carried."""
    if size <= 0:
        return None
    small = image.copy()
    small.thumbnail((size, size))
    small.info.clear()
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return file.getvalue()
