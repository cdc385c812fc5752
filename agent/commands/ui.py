"""``gsco ui``."""

from __future__ import annotations

from typing import Annotated

import typer


def ui(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="At which port.")] = 7860,
) -> None:
    """Serve a page to discuss cases on, until it is interrupted.

    Without keys in GSCO_API_KEYS only this machine is served, and each browser has conversations of its own.
    """
    from ..configuration import settings_from
    from ..page.server import serve_page

    serve_page(settings_from(), host=host, port=port)
