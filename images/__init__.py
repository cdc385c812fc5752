"""Reading medical images, and the store that keeps them under the hash of their pixels.

``read_image`` takes PNG, JPEG, TIFF, BMP, WebP, PNM, AVIF and DICOM, and HEIC and JPEG XL where a plugin is
installed (``docs/formats.md``). What a file is, its first bytes say; its extension is not looked at. So a
JPEG that is called ``.png`` reads as JPEG, and a PDF that is called ``.png`` is refused. The result is an
upright 8-bit image of mode ``L`` or ``RGB`` without metadata; ``grey``, ``rasters`` and ``dicom_display`` say
how deep values, palettes, transparency and windows become that.
"""

from __future__ import annotations

from .limits import DEFAULT_LIMITS, ImageLimits
from .reading import is_dicom, is_image, pixel_hash, read_image
from .store import ImageStore

__all__ = ["DEFAULT_LIMITS", "ImageLimits", "ImageStore", "is_dicom", "is_image", "pixel_hash", "read_image"]
