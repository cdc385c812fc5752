"""How large an image may be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageLimits:
    """What is refused before a pixel is decoded."""

    max_bytes: int = 64 * 2**20
    """Size of the file."""
    max_pixels: int = 64_000_000
    """Width times height of one frame. Pillow has a limit of its own, about 179 million."""
    max_frames: int = 10_000
    """Frames or pages in the file."""


DEFAULT_LIMITS = ImageLimits()
