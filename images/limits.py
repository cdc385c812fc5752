"""How large an image may be."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ImageTooLarge, ImageUnreadable


@dataclass(frozen=True)
class ImageLimits:
    """What is refused before a pixel is decoded.

    A thin image is small on disk and in pixels, and yet resizing one of 1 × 4,000,000 pixels to a square
    takes gigabytes. So each side and the aspect ratio have limits of their own.
    """

    max_bytes: int = 64 * 2**20
    """Size of the file."""
    max_pixels: int = 64_000_000
    """Width times height of one frame. Pillow has a limit of its own, about 179 million."""
    max_side: int = 32_768
    """Width, and height, of one frame."""
    max_aspect: float = 64.0
    """The longer side divided by the shorter one."""
    max_decoded_pixels: int = 2**24
    """A larger image is reduced by a whole factor while it is read: no model sees as many pixels."""
    max_frames: int = 10_000
    """Frames or pages in the file."""


DEFAULT_LIMITS = ImageLimits()
_MOST_SCANS = 64
_MOST_TEXT_SAMPLES = 2**21
_MOST_COMPOSED_PIXELS = 2**30
_START_OF_SCAN = b"\xff\xda"


def check_scans(data: bytes) -> None:
    """Refuse a JPEG with very many scans: each of them, of a few bytes, makes the decoder go over all pixels.

    Raises:
        ImageTooLarge: it has more than 64; a progressive file has about ten.
    """
    if (scans := data.count(_START_OF_SCAN)) > _MOST_SCANS:
        raise ImageTooLarge(
            f"the JPEG has {scans} scans, the limit is {_MOST_SCANS}: save it again as a plain JPEG"
        )


def check_text_map(data: bytes, samples: int) -> None:
    """Refuse a portable map whose numbers are written as text and take seconds or minutes to parse.

    Raises:
        ImageTooLarge: it has more than 2^21 samples, or more text than these need.
    """
    if data[1:2] in b"123" and (samples > _MOST_TEXT_SAMPLES or len(data) > 16 * samples + 2**16):
        raise ImageTooLarge(
            f"a portable map in text form may have {_MOST_TEXT_SAMPLES} samples; save it in binary form"
        )


def check_animation(frame: int, width: int, height: int) -> None:
    """Refuse a frame of an animation that many large frames before it must be composed for.

    Raises:
        ImageTooLarge: they have more than 2^30 pixels together.
    """
    if frame * width * height > _MOST_COMPOSED_PIXELS:
        raise ImageTooLarge(
            f"to show frame {frame} of this animation, all frames before it must be decoded, which takes too"
            " long; save the frame as an image"
        )


def check_size(width: int, height: int, limits: ImageLimits) -> None:
    """Refuse an image that is empty, or over the limit on pixels, sides or aspect ratio.

    Raises:
        ImageUnreadable: it has no pixels.
        ImageTooLarge: it is over a limit.
    """
    if width < 1 or height < 1:
        raise ImageUnreadable("the image has no pixels: its width or height is 0")
    shape = f"the image has {width} × {height} pixels"
    if width * height > limits.max_pixels:
        raise ImageTooLarge(f"{shape}, the limit is {limits.max_pixels} in all")
    if max(width, height) > limits.max_side:
        raise ImageTooLarge(f"{shape}, the limit is {limits.max_side} on each side")
    if max(width, height) > limits.max_aspect * min(width, height):
        raise ImageTooLarge(
            f"{shape}; one side may be at most {limits.max_aspect:g} times as long as the other, so crop it"
        )
