"""Images in requests: the bytes themselves, as a data URI. No address is ever fetched."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote

from .errors import ApiError

_HEAD = re.compile(r"""\s*data:(?:[^,"]|"[^"]*")*?;?\s*base64\s*,""", re.IGNORECASE)
_HEAD_LENGTH = 1000
"""The media type and its parameters are looked for in so many characters."""
_BARE = re.compile(r"[A-Za-z0-9+/_-]{200}")
"""How base64 without a head begins; no path or address is that long without any other sign."""
_URL_SAFE = str.maketrans("-_", "+/")


def image_bytes(address: str, param: str) -> bytes:
    """Return the bytes of a data URI; what kind of image they are is read from the bytes.

    Whitespace, percent-encoding, the URL-safe alphabet and missing padding are accepted, as are parameters
    of the media type, and base64 without the ``data:`` before it.

    Args:
        address: ``data:image/png;base64,…``; any kind, DICOM too (``data:application/dicom;base64,…``).
        param: field of the request, for the error.

    Raises:
        Problem: it is another address, or not base64.
    """
    head = _HEAD.match(address[:_HEAD_LENGTH])
    if head is None and not _BARE.match(address):
        kind = "an address on the web" if re.match(r"\s*https?:", address, re.IGNORECASE) else "no data URI"
        raise ApiError(
            400,
            f"the image is {kind}; this server fetches nothing: send the image itself as "
            "data:image/png;base64,…",
            "image_url_refused",
            param,
        )
    encoded = address[head.end() :] if head else address
    if "%" in encoded:
        encoded = unquote(encoded)
    encoded = "".join(encoded.split()).translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, "the image's data URI is not valid base64", "invalid_base64", param) from None
