"""Images in requests: the bytes themselves, as a data URI. Nothing is ever fetched for anybody."""

from __future__ import annotations

import base64
import binascii
import re

from .problems import Problem

_HEAD = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w.+-]+=[\w.+-]*)*;base64,", re.ASCII | re.IGNORECASE)


def image_bytes(address: str, param: str) -> bytes:
    """Return the bytes that a data URI holds; what kind of image it is, they say themselves.

    Args:
        address: ``data:image/png;base64,…``; any kind, DICOM too (``data:application/dicom;base64,…``).
        param: field of the request, for the error.

    Raises:
        Problem: it is another address, or no base64.
    """
    head = _HEAD.match(address)
    if head is None:
        kind = "an address on the web" if re.match(r"https?:", address, re.IGNORECASE) else "no data URI"
        raise Problem(
            400, f"the image is {kind}; this server fetches nothing: send the image itself as "
            "data:image/png;base64,…", "image_url_refused", param,
        )  # fmt: skip
    try:
        return base64.b64decode(address[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise Problem(400, "the image's data URI is not valid base64", "invalid_base64", param) from None
