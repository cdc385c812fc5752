"""Serves the page until it is interrupted."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import GscoError
from ..auth import Reviewers, Users
from ..http_server import serve_http
from ..json_limits import JsonLimits

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from ...settings import Settings
    from ..api import GSCo

EVENT_BYTES = 4 * 2**20
"""Size of an event that the page sends; images are uploaded as forms."""


def serve_page(settings: Settings, *, host: str, port: int) -> None:
    """Serve the page over HTTP; see ``serve_http``."""

    def make(gsco: GSCo, users: Users) -> ASGIApp:
        confine_gradio(settings.home / "gradio")
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # the address is printed once, by itself
        page = application(gsco, settings, users)
        threading.Thread(target=_load, args=(gsco,), daemon=True).start()
        return page

    serve_http(settings, make, host=host, port=port, extra="ui", opened=_announce)


def application(gsco: GSCo, settings: Settings, users: Users) -> ASGIApp:
    """The page, its uploads and reports, and before them the checks of who enters and what is reached."""
    import gradio as gr
    from fastapi import FastAPI

    from .file_references import refuse_file_references
    from .layout import build, script, sheet, theme
    from .page_guard import PageGuard
    from .page_session import PageSession
    from .reports import reports
    from .session import ChatSession
    from .upload_routes import upload_routes
    from .upload_store import UploadLimits, UploadStore

    refuse_file_references()
    reviewers = Reviewers.from_settings(settings, users)
    uploads = UploadStore(settings.home / "uploads", UploadLimits.from_settings(settings))
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(reports(gsco))
    app.include_router(upload_routes(uploads))
    room = ChatSession(gsco, uploads, settings.api_timeout, user_turns=settings.api_user_concurrency)
    mounted = gr.mount_gradio_app(
        app,
        build(room, reviewers, at_once=settings.api_concurrency),
        path="/",
        footer_links=[],
        show_error=False,
        max_file_size=settings.max_image_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=sheet(),
        head=script(),
    )
    return PageSession(PageGuard(JsonLimits(mounted, EVENT_BYTES)), users)


def confine_gradio(folder: Path) -> None:
    """Give Gradio a folder of its own for what it writes; uploads do not go through it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def _announce(address: str) -> None:
    print(f"gsco is at {address}", flush=True)


def _load(gsco: GSCo) -> None:
    """Load the models before anybody asks; what goes wrong is told on the page, which tries again."""
    with suppress(GscoError):
        gsco.load()
