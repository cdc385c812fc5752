"""Questions and their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import gradio as gr

from ...errors import GscoError
from ..reports.export import note_on
from ..reviewers import Reviewers
from .components import PageComponents, busy, idle
from .conversation_panel import listed, visitor
from .fragments import alert, progress, status_line
from .session import CaseInfo, ChatSession
from .uploads import stored, window_of

STOPPED = "Stopped. What was found so far is kept; your next question finishes it first."


def chat(page: gr.Blocks, room: ChatSession, reviewers: Reviewers, parts: PageComponents) -> Any:
    """Wire the box of questions; returns the event that can be stopped."""

    async def enter(request: gr.Request) -> dict[Any, Any]:
        return {
            parts.thread: uuid4().hex,
            parts.threads: await listed(room, reviewers, visitor(request), None),
        }

    async def load() -> dict[Any, Any]:
        note, problem = await asyncio.to_thread(_loaded, room)
        return {parts.standing: status_line(note), parts.progress: progress(""), parts.alert: alert(problem)}

    async def say(
        given: dict[str, Any],
        thread: str,
        task: str,
        context: str,
        center: float | None,
        width: float | None,
        request: gr.Request,
    ) -> AsyncIterator[dict[Any, Any]]:
        user, text, uploads = visitor(request), (given.get("text") or "").strip(), given.get("files") or []
        if not text and not uploads:
            yield {parts.alert: alert("Say something, or drop in an image.")}
            return
        try:
            window = window_of(center, width)
            images = await asyncio.to_thread(stored, room.gsco.images, room.uploads, user, uploads, window)
        except GscoError as error:
            yield {parts.alert: alert(str(error)), parts.box: {"text": text}}
            return
        yield {parts.box: busy(), parts.alert: ""}
        async for shown in room.take_turn(user, thread, text, images, CaseInfo(task or "", context or "")):
            yield parts.updates(shown)
        yield {parts.threads: await listed(room, reviewers, user, thread)}

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    page.load(enter, None, parts.all(), **quiet)
    page.load(load, None, parts.all(), **quiet)
    told = [parts.box, parts.thread, parts.task, parts.context, parts.center, parts.width]
    return parts.box.submit(say, told, parts.all(), **quiet)


def stopping(parts: PageComponents, events: list[Any]) -> None:
    """Wire the button that stops an answer."""

    def stopped() -> dict[Any, Any]:
        return {parts.progress: progress(""), parts.alert: alert(STOPPED), parts.box: idle()}

    parts.box.stop(
        stopped, None, [parts.progress, parts.alert, parts.box], cancels=events,
        api_visibility="private", show_progress="hidden",
    )  # fmt: skip


def _loaded(room: ChatSession) -> tuple[str, str]:
    """Load the models; a note on the generalist, and what went wrong."""
    try:
        room.gsco.load()
        return note_on(room.gsco), ""
    except GscoError as error:
        return "", str(error)
