"""Which web page sent a request: others must not act with a reader's cookie, or reach a keyless server."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import Scope


def is_foreign(scope: Scope) -> bool:
    """Whether a browser says that another page made this request; one at another port counts as another.

    Programs that are no browsers send neither ``Origin`` nor ``Sec-Fetch-Site`` and are never foreign.
    Following a link to the page is allowed.
    """
    origin = header(scope, b"origin")
    if origin:
        hosts = {header(scope, b"host").lower(), *_forwarded(scope)}
        return urlsplit(origin).netloc.lower() not in hosts - {""}
    if header(scope, b"sec-fetch-site") not in ("cross-site", "same-site"):
        return False
    return scope["method"] != "GET" or header(scope, b"sec-fetch-mode") != "navigate"


def header(scope: Scope, name: bytes) -> str:
    """The first header of a name; empty where there is none."""
    return next((value.decode("latin-1") for found, value in scope["headers"] if found == name), "")


def _forwarded(scope: Scope) -> set[str]:
    """Hosts that a reverse proxy was asked for. A page cannot set this header for another origin."""
    return {host.strip().lower() for host in header(scope, b"x-forwarded-host").split(",")}
