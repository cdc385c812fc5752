"""The window through which DICOM images are looked at, with a preview."""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr

from ...errors import GscoError
from .fragments import alert, lines, shown
from .parts import Parts
from .room import Room
from .uploads import PRESETS, first_dicom, preview, window_of

NONE_YET = "The window is for DICOM images; there is none in your question yet."


def windowing(room: Room, parts: Parts) -> None:
    """Wire the controls."""

    def preset(name: str) -> dict[Any, Any]:
        center, width = PRESETS[name] or (None, None)
        return {parts.center: center, parts.width: width}

    async def look(given: dict[str, Any] | None, center: float | None, width: float | None) -> str:
        try:
            file = first_dicom((given or {}).get("files") or ())
            window = window_of(center, width)
            if file is None:
                return lines([NONE_YET]) if window else ""
            made = await asyncio.to_thread(preview, room.gsco.images, file, window)
            return shown([made], captions=True)
        except GscoError as error:
            return alert(str(error))

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    parts.preset.input(preset, [parts.preset], [parts.center, parts.width], **quiet)
    gr.on(
        [parts.box.change, parts.center.change, parts.width.change], look,
        [parts.box, parts.center, parts.width], [parts.preview], trigger_mode="always_last", **quiet,
    )  # fmt: skip
