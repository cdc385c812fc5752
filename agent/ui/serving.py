"""Serves the page until it is interrupted."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ConfigurationError, GscoError
from ..access import Users, check_reachable
from ..json_limits import JsonLimits
from ..logs import log_to_stderr
from ..shutdown import run_server

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from ...settings import Settings
    from ..api import GSCo

EVENT_BYTES = 4 * 2**20
"""Size of an event that the page sends; images are uploaded as forms."""


def serve_page(settings: Settings, *, host: str, port: int) -> None:
    """Serve the page over HTTP.

    Args:
        settings: of the installation and of the server.
        host: where it listens.
        port: 0 takes a free one.

    Raises:
        ConfigurationError: packages are missing, a key is wrong, or the host is open to others without keys.
    """
    users = Users.parse(settings.api_keys.get_secret_value())
    check_reachable(host, users)
    uploads(settings.home / "uploads")
    try:
        import uvicorn  # noqa: F401

        from ..api import GSCo
        from . import page  # noqa: F401
    except ImportError as error:
        raise ConfigurationError("the chat page needs more packages: pip install 'gsco[ui]'") from error
    log_to_stderr("gsco.ui", "uvicorn")
    with GSCo.from_settings(settings) as gsco:
        threading.Thread(target=_load, args=(gsco,), daemon=True).start()
        app = application(gsco, settings, users)
        run_server(app, seconds=settings.shutdown_seconds, host=host, port=port, lifespan="on")


def application(gsco: GSCo, settings: Settings, users: Users) -> ASGIApp:
    """The page, its reports, and before both of them who may enter."""
    import gradio as gr
    from fastapi import FastAPI

    from .page import build, sheet, theme
    from .reports import reports
    from .room import Room
    from .visitors import Visitors

    _fetch_nothing()
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(reports(gsco))
    page = build(Room(gsco, settings.api_timeout), users, at_once=settings.api_concurrency)
    mounted = gr.mount_gradio_app(
        app, page, path="/", footer_links=[], show_error=False, max_file_size=settings.max_image_bytes,
        ssr_mode=False, enable_monitoring=False, pwa=False, mcp_server=False, theme=theme(), css=sheet(),
    )  # fmt: skip
    return Visitors(JsonLimits(mounted, EVENT_BYTES), users)


def _fetch_nothing() -> None:
    """Refuse addresses: Gradio would download one that stands in the place of an upload."""
    import gradio as gr
    from gradio import processing_utils

    async def refused(url: str, *rest: object, **more: object) -> None:
        raise gr.Error("addresses are not fetched; upload the image itself")

    for name in ("async_ssrf_protected_get", "async_ssrf_protected_download"):
        if not hasattr(processing_utils, name):
            raise ConfigurationError(f"this version of gradio has no {name}; install one that gsco allows")
        setattr(processing_utils, name, refused)


def uploads(folder: Path) -> None:
    """Let Gradio keep uploads, until they are read, where nobody else reads them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def _load(gsco: GSCo) -> None:
    """Load the models before anybody asks; what goes wrong is told on the page, which tries again."""
    with suppress(GscoError):
        gsco.load()
