"""Pictures for pages: small, and with the heat of an activation map laid over them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 512
"""Longest side of a picture on a page."""
HEAT_SIDE = 128
"""Longest side of a layer of heat, which is coarse; it is enlarged to its image."""
STRENGTH = 0.55
"""How much of the hottest pixel is heat and not image."""
_PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)
_REDS, _GREENS, _BLUES = (0, 87, 188, 249, 252), (0, 16, 55, 142, 255), (4, 110, 84, 9, 164)
"""A scale that darkens and brightens evenly (``inferno``'s anchors), so that it reads in grey too."""


@dataclass(frozen=True)
class ReportImage:
    """A picture that stands on a page."""

    png: bytes
    caption: str

    @property
    def address(self) -> str:
        """The picture itself as an address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class CasePictures:
    """What can be looked at of a case."""

    image: ReportImage | None = None
    heat: ReportImage | None = None
    """Transparent where it is cold, to lie over the image."""


NO_PICTURES = CasePictures()


def picture(image: Image, caption: str, side: int = SIDE) -> ReportImage:
    """Make a page's picture of an image, at most ``side`` pixels long."""
    small = shrunk(image, side)
    buffer = BytesIO()
    small.save(buffer, "PNG")
    return ReportImage(buffer.getvalue(), caption)


def overlay(image: Image, heat: npt.NDArray[np.float32], side: int = SIDE) -> Image:
    """Lay heat (height, width; 0 to 1) over an image: cold places stay as they are."""
    from PIL import Image as Pillow

    small = shrunk(image, side).convert("RGB")
    layer = heat_layer(heat).resize(small.size, Pillow.Resampling.BILINEAR)
    weight = STRENGTH * np.asarray(layer.getchannel("A"), dtype=np.float32)[..., None] / 255.0
    mixed = (1.0 - weight) * np.asarray(small, dtype=np.float32) + weight * np.asarray(layer)[..., :3]
    return Pillow.fromarray(np.rint(mixed).astype(np.uint8))


def heat_layer(heat: npt.NDArray[np.float32]) -> Image:
    """Colour heat (height, width; 0 to 1), transparent where it is cold: RGBA, at most ``HEAT_SIDE`` long."""
    from PIL import Image as Pillow

    share = np.clip(np.asarray(shrunk(Pillow.fromarray(heat), HEAT_SIDE), dtype=np.float32), 0.0, 1.0)
    channels = [np.interp(share, _PLACES, channel) for channel in (_REDS, _GREENS, _BLUES)]
    return Pillow.fromarray(np.rint(np.stack([*channels, 255.0 * share], axis=2)).astype(np.uint8))


def shrunk(image: Image, side: int) -> Image:
    """Return the image, or a copy whose longest side is ``side``."""
    from PIL import Image as Pillow

    if max(image.size) <= side:
        return image
    copy = image.copy()
    copy.thumbnail((side, side), Pillow.Resampling.LANCZOS)
    return copy
