"""The list of a visitor's conversations: open, begin, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import gradio as gr

from ...errors import GscoError
from ..reviewers import Reviewers, record_under_review
from .components import PageComponents
from .fragments import alert
from .session import ChatSession

if TYPE_CHECKING:
    from ..records import ThreadSummary

_MARKS = {"review": "awaits a decision", "cut off": "cut off", "ready": ""}


def visitor(request: gr.Request) -> str:
    """Whose page it is, as ``PageSession`` found."""
    return request.state.user


async def listed(room: ChatSession, reviewers: Reviewers, user: str, chosen: str | None) -> gr.Radio:
    """The list of a user's conversations and of others' that this user decides on, with one chosen."""
    choices = [(name(one), one.thread_id) for one in await room.gsco.athreads(user=user)]
    if reviewers.reviews_others(user):
        for one in await room.gsco.areviews(reviewer=user):
            choices.append((f"{one.user}: {name(one)}", f"{one.user}/{one.thread_id}"))
    return gr.Radio(choices, value=chosen if chosen in {place for _, place in choices} else None)


def place_of(user: str, chosen: str) -> tuple[str, str]:
    """Whose conversation an entry of the list is, and its name: ``OWNER/NAME`` for another user's."""
    owner, slash, thread = chosen.partition("/")
    return (owner, thread) if slash else (user, chosen)


def name(one: ThreadSummary) -> str:
    """What a conversation is called in the list."""
    mark = _MARKS[one.status]
    when = f"{one.updated.astimezone():%d %b %H:%M}"
    return " · ".join(filter(None, [one.title or "(an image)", when, mark]))


def conversations(room: ChatSession, reviewers: Reviewers, parts: PageComponents) -> None:
    """Wire the list."""

    async def opened(thread: str, request: gr.Request) -> dict[Any, Any]:
        user = visitor(request)
        owner, name = place_of(user, thread)
        if owner != user:
            try:
                await record_under_review(room.gsco, reviewers, user, owner, name)
            except GscoError as error:
                return {parts.alert: alert(str(error))}
        return {**parts.updates(await room.opened(owner, name)), parts.thread: thread}

    async def begin(request: gr.Request) -> dict[Any, Any]:
        return {**await opened(uuid4().hex, request), parts.threads: gr.Radio(value=None)}

    async def remove(thread: str, request: gr.Request) -> dict[Any, Any]:
        try:
            await room.gsco.consult(thread, user=visitor(request)).adelete()
        except GscoError as error:
            return {parts.alert: alert(str(error)), parts.sure: gr.Group(visible=False)}
        return {
            **await opened(uuid4().hex, request), parts.sure: gr.Group(visible=False),
            parts.threads: await listed(room, reviewers, visitor(request), None),
        }  # fmt: skip

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    parts.new.click(begin, None, parts.all(), **quiet)
    parts.threads.input(opened, [parts.threads], parts.all(), **quiet)
    parts.delete.click(lambda: gr.Group(visible=True), None, [parts.sure], **quiet)
    parts.no.click(lambda: gr.Group(visible=False), None, [parts.sure], **quiet)
    parts.yes.click(remove, [parts.thread], parts.all(), **quiet)
