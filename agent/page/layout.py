"""The page as a whole."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import gradio as gr
from gradio.themes import Base, Default

from ..reports.html import style
from .chat import chat
from .components import lay_out
from .conversation_panel import conversations
from .dicom_window import windowing
from .review import reviewing
from .saliency import saliency

if TYPE_CHECKING:
    from ..auth import Reviewers
    from .session import ChatSession

_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif"]


def build(room: ChatSession, reviewers: Reviewers, *, at_once: int = 64) -> gr.Blocks:
    """Make the page.

    Args:
        room: what it can do.
        reviewers: who may decide.
        at_once: turns that run at once; further ones queue up, to four times as many.
    """
    with gr.Blocks(title="gsco", analytics_enabled=False, fill_width=True) as page:
        parts = lay_out(room, named=not reviewers.users)
        chat(page, room, reviewers, parts)
        reviewing(room, reviewers, parts)
        conversations(page, room, reviewers, parts)
        saliency(room, parts)
        windowing(room, parts)
    page.queue(max_size=4 * at_once, default_concurrency_limit=at_once, api_open=False)
    return page


@cache
def sheet() -> str:
    """The page's style sheet."""
    return style() + files("gsco.agent.page").joinpath("page.css").read_text(encoding="utf-8")


@cache
def script() -> str:
    """The page's own script, as part of its head."""
    return f"<script>{files('gsco.agent.page').joinpath('page.js').read_text(encoding='utf-8')}</script>"


def theme() -> Base:
    """Colours and fonts; the fonts are the reader's own: nothing is fetched."""
    made = Default(primary_hue="blue", neutral_hue="slate", font=_FONTS, font_mono=["monospace"])
    # White on Gradio's own shade has a contrast of 3.7; 4.5 is the least that is legible (WCAG AA).
    shade, darker = "*primary_600", "*primary_700"
    return made.set(
        button_primary_background_fill=shade,
        button_primary_background_fill_dark=shade,
        button_primary_background_fill_hover=darker,
        button_primary_background_fill_hover_dark=darker,
    )
