"""Where each specialist looked, drawn when somebody asks for it."""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr

from ...case import Diagnosis
from ...errors import GscoError
from .components import PageComponents
from .fragments import alert
from .session import ChatSession


def saliency(room: ChatSession, parts: PageComponents) -> None:
    """Wire the choice of specialist and label."""

    async def look(diagnosis: Diagnosis | None, specialist: str | None, label: str | None) -> str:
        if diagnosis is None or not specialist or not label:
            return ""
        try:
            return await asyncio.to_thread(room.looked, diagnosis, specialist, label)
        except GscoError as error:
            return alert(str(error))

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
    given = [parts.diagnosis, parts.specialist, parts.label]
    gr.on([parts.looks.expand, parts.specialist.input, parts.label.input], look, given, [parts.look], **quiet)
