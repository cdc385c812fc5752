"""Large JPEG 2000 frames at one of the lower resolutions that the codestream holds.

pylibjpeg decodes whole frames only, so Pillow does this.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, features
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from .codestreams import FrameHeader, j2k_levels
from .grey import Values


def reduced_j2k(frame: bytes, header: FrameHeader, factor: int) -> Values | None:
    """Decode a frame at half its width and height, or a quarter, …, as far as ``factor`` asks for.

    Args:
        frame: the codestream, bare or in a JP2 file.
        header: of the frame.
        factor: by which it would be reduced once it is decoded; the largest power of two within it is taken.

    Returns:
        Stored values, uint16 of shape (h, w) (negative ones as two's complement) or uint8 of shape (h, w, 3);
        None where the whole frame must be decoded: the factor is 1, the codestream holds no lower resolution,
        its samples are deep or unusual, or this Pillow cannot read JPEG 2000.
    """
    levels = min(factor.bit_length() - 1, j2k_levels(frame)) if factor > 1 else 0
    grey = header.components == 1 and header.precision <= 16
    colour = header.components == 3 and header.precision == 8 and not header.signed
    if not levels or not (grey or colour) or not features.check("jpg_2000"):
        return None
    try:
        with Image.open(BytesIO(frame), formats=["JPEG2000"]) as image:
            if not isinstance(image, Jpeg2KImageFile) or image.mode not in ("L", "I;16", "RGB"):
                return None
            image.reduce = levels
            image.load()
            values = np.asarray(image)
    except OSError:
        return None  # decoding it as a whole says what is wrong
    if colour:
        return values
    # Pillow shifts the samples to the top of 8 or 16 bits, and negative ones to 0 and above.
    unused = 8 * values.dtype.itemsize - header.precision
    offset = 1 << (header.precision - 1) if header.signed else 0
    return ((values.astype(np.int32) >> unused) - offset).astype(np.uint16)
