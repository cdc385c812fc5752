"""The window through which DICOM images are looked at, with a preview."""

from __future__ import annotations

import asyncio

import gradio as gr
from gradio.components.multimodal_textbox import MultimodalValue

from ...errors import GscoError
from ..user_share import TooManyRequests, UserShare
from .components import PageComponents, Updates
from .conversation_panel import QUIET, visitor
from .fragments import alert, figures, lines
from .session import ChatSession
from .uploads import PRESETS, preview

NONE_YET = "The window is for DICOM images; there is none in your question yet."
PREVIEWS = 2
"""Previews of one user that are drawn at once."""


def windowing(room: ChatSession, parts: PageComponents) -> None:
    """Wire the controls."""

    def preset(name: str) -> Updates:
        center, width = PRESETS.get(name) or (0, 0)
        return {parts.center: center, parts.width: width}

    share = UserShare(PREVIEWS)

    async def look(
        given: MultimodalValue | None, center: float | None, width: float | None, request: gr.Request
    ) -> str:
        user = visitor(request)
        try:
            with share.turn(user):
                ids = (given or {}).get("files") or []
                made = await asyncio.to_thread(
                    preview, room.gsco.images, room.uploads, user, ids, center, width
                )
        except (GscoError, TooManyRequests) as error:
            return alert(str(error))
        if made is None:
            return lines([NONE_YET]) if width else ""
        return figures([made], captions=True)

    parts.preset.input(preset, [parts.preset], [parts.center, parts.width], **QUIET)
    gr.on(
        [parts.box.change, parts.center.change, parts.width.change],
        look,
        [parts.box, parts.center, parts.width],
        [parts.preview],
        trigger_mode="always_last",
        **QUIET,
    )
