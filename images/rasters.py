"""PNG, JPEG, TIFF, BMP, WebP, PNM, AVIF, HEIC and JPEG XL through Pillow, and the way to plain 8 bit.

``grey`` says how deep grey values become 8 bit. 16-bit colour loses its lower byte. Transparent pixels
are laid on black. Colour profiles are not applied. AVIF needs a Pillow that was built with it (wheels are
since 11.3), HEIC and JPEG XL need a plugin (``gsco[formats]``).
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, MpoImagePlugin, PpmImagePlugin, TiffImagePlugin, WebPImagePlugin, features  # noqa: F401

from ..errors import ImageMissing, ImageTooLarge, ImageUnsupported
from .decoder_warnings import silence_loggers
from .grey import Window, grey8
from .headers import ReadBudgetBytesIO, exif_orientation, tiff_pages, webp_canvas
from .jpeg_xl import jpeg_xl_header, open_plugin
from .limits import check_animation, check_scans, check_size, check_text_map
from .memory import DECODING, decoding_cost
from .scale import draft, reduced, reduction
from .tiff_bands import reduced_page

if TYPE_CHECKING:
    from .limits import ImageLimits

# Pillow would import these at the first file that needs them, when their loggers are not yet silenced.
silence_loggers()

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_raster(
    data: bytes, kind: str, *, limits: ImageLimits, frame: int | None = None, window: Window | None = None
) -> Image.Image:
    """Decode a file that Pillow knows.

    Args:
        data: the whole file.
        kind: Pillow's name of the format; no other decoder is tried.
        limits: checked before a pixel is decoded.
        frame: page of a TIFF or picture of an animation; by default the first one.
        window: center and width, for single-channel pictures.
    """
    # Pillow walks the pages one by one without a limit, so they are counted first.
    pages = tiff_pages(data, limits.max_frames) if kind == "TIFF" else None
    if kind == "JPEG":
        check_scans(data)
    if kind == "WEBP" and (canvas := webp_canvas(data)):
        check_size(*canvas, limits)
    _prepare(data, kind, limits)
    file = ReadBudgetBytesIO(data, f"the {kind} file has too many parts; save it again with an image program")
    with Image.open(file, formats=[kind]) as image:
        check_size(image.width, image.height, limits)
        if kind == "PPM":
            check_text_map(data, image.width * image.height * len(image.getbands()))
        count = pages or getattr(image, "n_frames", 1)
        if count > limits.max_frames:
            raise ImageTooLarge(f"the image has {count} frames, the limit is {limits.max_frames}")
        if chosen := chosen_frame(frame, count, default=0):
            if kind != "TIFF":
                check_animation(chosen, image.width, image.height)
            image.seek(chosen)
            check_size(image.width, image.height, limits)
        most = limits.max_decoded_pixels
        factor = reduction(image.width, image.height, most)
        tiff = isinstance(image, TiffImagePlugin.TiffImageFile)
        if tiff and factor > 1 and (page := reduced_page(image, data, factor)) is not None:
            return plain(page, window, most=most)
        with DECODING.reserved(decoding_cost(image.width, image.height)):
            draft(image, most)
            return plain(image, window, most=most)


def _prepare(data: bytes, kind: str, limits: ImageLimits) -> None:
    """Load the plugin of a format that Pillow itself does not read.

    Raises:
        ImageUnsupported: it is not installed; the message says what to install.
        ImageTooLarge: a JPEG XL image is over the limit, whose plugin would decode it on opening.
    """
    if kind == "AVIF" and not features.check("avif"):
        raise ImageUnsupported("this Pillow was built without AVIF; install pillow 11.3 or later, or convert")
    if kind == "HEIF":
        if find_spec("pillow_heif") is None:
            raise ImageUnsupported(
                "no decoder for HEIC is installed; install pillow-heif, or gsco with [formats]"
            )
        import_module("pillow_heif").register_heif_opener()
    if kind == "JXL":
        header = jpeg_xl_header(data)
        check_size(header.width, header.height, limits)
        open_plugin("JPEG XL")


def chosen_frame(frame: int | None, count: int, *, default: int) -> int:
    """The number of the frame to read.

    Raises:
        ImageMissing: there is no such frame.
    """
    if frame is None:
        return default
    if not 0 <= frame < count:
        raise ImageMissing(f"the image has no frame {frame}; its frames are 0 to {count - 1}")
    return frame


def plain(image: Image.Image, window: Window | None = None, *, most: int) -> Image.Image:
    """Turn any Pillow image into an upright one of mode ``L`` or ``RGB`` without metadata.

    A colour image whose three channels are equal becomes ``L``.

    Args:
        image: what is turned.
        window: center and width, for single-channel pictures.
        most: pixels to which it is reduced.

    Raises:
        ImageUnsupported: the colours are of a kind that would come out wrong.
    """
    deep = _has_deep_colour(image)
    image.load()
    if deep:
        _check_upper_bits(image)
    orientation = exif_orientation(image.info.get("exif") or b"")
    if image.mode.startswith(("I", "F")):
        flat = reduced(Image.fromarray(grey8(np.asarray(image), window)), most)
    else:
        flat = _one_channel_if_grey(reduced(_flat(reduced(image, most)), most))
        flat = flat if window is None else _windowed(flat, window)
    if orientation in _TURNS:
        flat = flat.transpose(_TURNS[orientation])
    bare = flat.copy()
    bare.info = {}
    return bare


def _has_deep_colour(image: Image.Image) -> bool:
    """Whether several samples of 16 bits are about to be decoded, of which Pillow keeps the upper eight."""
    tiles = getattr(image, "tile", ())
    return len(image.getbands()) > 1 and any(";16" in str(tile[3]) for tile in tiles)


def _check_upper_bits(image: Image.Image) -> None:
    """Refuse a picture whose values leave the upper bits empty: it would come out nearly black.

    Raises:
        ImageUnsupported: at most 14 of the 16 bits are used.
    """
    colours = [image.getchannel(name) for name in image.getbands() if name != "A"]
    if not any(sum(colour.histogram()[64:]) for colour in colours):
        raise ImageUnsupported(
            "the file has 16 bits per colour and uses at most 14 of them, of which only the upper 8 can be "
            "read; save it as 16-bit grey, or scale it to 8 bits"
        )


def _flat(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    if image.mode in ("1", "L"):
        return image.convert("L")
    if image.mode == "LAB":
        raise ImageUnsupported("images in Lab colours are not supported; convert the file to RGB or grey")
    return image.convert("RGB")


def _one_channel_if_grey(image: Image.Image) -> Image.Image:
    if image.mode == "L":
        return image
    red, green, blue = image.split()
    return red if red.tobytes() == green.tobytes() == blue.tobytes() else image


def _windowed(image: Image.Image, window: Window) -> Image.Image:
    if image.mode != "L":
        raise ImageUnsupported("a window was given, but the image is in colour; leave the window out")
    return Image.fromarray(grey8(np.asarray(image), window))
