"""Questions and their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import gradio as gr
from gradio.components.multimodal_textbox import MultimodalValue

from ...errors import GscoError
from ..auth import Reviewers
from ..reports.export import note_on
from .components import PageComponents, Updates, busy
from .conversation_panel import QUIET, listed, place_of, visitor
from .fragments import alert, progress, status_line
from .session import STOPPING, CaseInfo, ChatSession, PageUpdate
from .start_page import ASKED, sample_named
from .uploads import stored

if TYPE_CHECKING:
    from ...case import ImageRef


def chat(page: gr.Blocks, room: ChatSession, reviewers: Reviewers, parts: PageComponents) -> None:
    """Wire the box of questions, the button that stops an answer, and the samples."""

    def turn(
        user: str, place: str, text: str, images: Sequence[ImageRef], about: CaseInfo
    ) -> AsyncIterator[Updates]:
        return _updates(room.take_turn(user, place, text, images, about), room, reviewers, parts, user, place)

    async def load() -> Updates:
        note, problem = await asyncio.to_thread(_loaded, room)
        return {parts.standing: status_line(note), parts.progress: progress(""), parts.alert: alert(problem)}

    async def say(
        given: MultimodalValue,
        place: str,
        task: str,
        context: str,
        center: float | None,
        width: float | None,
        request: gr.Request,
    ) -> AsyncIterator[Updates]:
        user, text, uploads = visitor(request), (given.get("text") or "").strip(), given.get("files") or []
        if not text and not uploads:
            yield {parts.alert: alert("Say something, or drop in an image.")}
            return
        store = room.gsco.images
        try:
            images = await asyncio.to_thread(stored, store, room.uploads, user, uploads, center, width)
        except GscoError as error:
            yield {parts.alert: alert(str(error)), parts.box: {"text": text}}
            return
        async for update in turn(user, place, text, images, CaseInfo(task or "", context or "")):
            yield update

    async def choose(place: str, event: gr.EventData, request: gr.Request) -> AsyncIterator[Updates]:
        try:
            sample = sample_named(event._data.get("sample"))  # pyright: ignore[reportPrivateUsage]
            image = await asyncio.to_thread(room.gsco.images.put, sample.path)
        except GscoError as error:
            yield {parts.alert: alert(str(error))}
            return
        async for update in turn(visitor(request), place, ASKED, [image], CaseInfo()):
            yield update

    def stop(place: str, request: gr.Request) -> str:
        room.stop(*place_of(visitor(request), place))
        return progress(STOPPING)

    page.load(load, None, [parts.standing, parts.progress, parts.alert], **QUIET)
    asked = [parts.box, parts.thread, parts.task, parts.context, parts.center, parts.width]
    # Several at once: the next question may come before the last one's event is over for Gradio.
    parts.box.submit(say, asked, parts.all(), trigger_mode="multiple", **QUIET)
    parts.start.select(choose, [parts.thread], parts.all(), **QUIET)
    parts.box.stop(stop, [parts.thread], [parts.progress], **QUIET)


async def _updates(
    turn: AsyncIterator[PageUpdate],
    room: ChatSession,
    reviewers: Reviewers,
    parts: PageComponents,
    user: str,
    place: str,
) -> AsyncIterator[Updates]:
    """What Gradio is told while a turn unfolds, and of the list of conversations at its end."""
    more: Updates = {parts.box: busy()}
    async for shown in turn:
        if shown.over:
            more[parts.threads] = await listed(room, reviewers, user, place)
        yield {**more, **parts.updates(shown)}
        more = {}


def _loaded(room: ChatSession) -> tuple[str, str]:
    """Load the models; a note on the generalist, and what went wrong."""
    try:
        room.gsco.load()
        return note_on(room.gsco), ""
    except GscoError as error:
        return "", str(error)
