"""The list of a visitor's conversations: open, begin, delete."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import gradio as gr

from ...errors import GscoError
from ..auth import Reviewers, record_under_review
from .components import PageComponents, Updates
from .conversation_list import ListedConversation, list_fragment
from .fragments import alert
from .session import ChatSession, PageUpdate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""How the page's events are made: no interface for programs, no spinner over what they change."""
_LISTED = 200
"""Conversations in the list, at most."""


def visitor(request: gr.Request) -> str:
    """Whose page it is, as ``PageSession`` found."""
    return request.state.user


async def listed(room: ChatSession, reviewers: Reviewers, user: str, chosen: str | None) -> str:
    """The list of a user's conversations and of others' that this user decides on, with one chosen."""
    entries = [ListedConversation(one.thread_id, one) for one in await room.gsco.athreads(user=user)]
    if reviewers.reviews_others(user):
        for one in await room.gsco.areviews(reviewer=user):
            entries.append(ListedConversation(f"{one.user}/{one.thread_id}", one, one.user))
    return await asyncio.to_thread(list_fragment, entries[:_LISTED], chosen, room.icon)


def place_of(user: str, chosen: str) -> tuple[str, str]:
    """Whose conversation an entry of the list is, and its name: ``OWNER/NAME`` for another user's."""
    owner, slash, thread = chosen.partition("/")
    return (owner, thread) if slash else (user, chosen)


async def opened_for(
    room: ChatSession,
    reviewers: Reviewers,
    user: str,
    place: str,
    show: Callable[[str, str], Awaitable[PageUpdate]],
) -> PageUpdate:
    """What a conversation shows to a user; why not, where it is another's that this user may not see."""
    owner, name = place_of(user, place)
    if owner != user:
        try:
            await record_under_review(room.gsco, reviewers, user, owner, name)
        except GscoError as error:
            return PageUpdate(alert=str(error))
    return await show(owner, name)


def conversations(page: gr.Blocks, room: ChatSession, reviewers: Reviewers, parts: PageComponents) -> None:
    """Wire the list, and what brings a conversation back when the page is loaded again."""

    async def opened(user: str, place: str) -> Updates:
        shown = await opened_for(room, reviewers, user, place, room.opened)
        if shown.bubbles is None:
            return {parts.alert: alert(shown.alert)}
        return {
            **parts.updates(shown),
            parts.thread: place,
            parts.threads: await listed(room, reviewers, user, place),
        }

    async def enter(place: str, request: gr.Request) -> Updates:
        """Bring back the conversation that this tab had open, if it is still there."""
        user = visitor(request)
        found = await opened(user, place) if place else {}
        return found if parts.thread in found else await opened(user, uuid4().hex)

    async def choose(event: gr.EventData, request: gr.Request) -> Updates:
        place = event._data.get("place", "")  # pyright: ignore[reportPrivateUsage]
        return await opened(visitor(request), str(place))

    async def begin(request: gr.Request) -> Updates:
        return await opened(visitor(request), uuid4().hex)

    async def switch(number: int | None, place: str, request: gr.Request) -> Updates:
        async def show(owner: str, name: str) -> PageUpdate:
            return await room.case(owner, name, -1 if number is None else number)

        return parts.evidence(await opened_for(room, reviewers, visitor(request), place, show))

    async def remove(place: str, request: gr.Request) -> Updates:
        try:
            await room.gsco.consult(place, user=visitor(request)).adelete()
        except GscoError as error:
            return {parts.alert: alert(str(error)), parts.sure: gr.Group(visible=False)}
        return {**await begin(request), parts.sure: gr.Group(visible=False)}

    page.load(enter, [parts.thread], parts.all(), js=f"() => sessionStorage.getItem('{_TAB}') || ''", **QUIET)
    parts.thread.change(
        None, [parts.thread], None, js=f"(place) => sessionStorage.setItem('{_TAB}', place)", **QUIET
    )
    parts.new.click(begin, None, parts.all(), **QUIET)
    parts.threads.select(choose, None, parts.all(), **QUIET)
    parts.cases.input(switch, [parts.cases, parts.thread], parts.all(), **QUIET)
    parts.delete.click(lambda: gr.Group(visible=True), None, [parts.sure], **QUIET)
    parts.no.click(lambda: gr.Group(visible=False), None, [parts.sure], **QUIET)
    parts.yes.click(remove, [parts.thread], parts.all(), **QUIET)


_TAB = "gsco-conversation"
"""Where a tab of the browser remembers its conversation, so that loading it again brings it back."""
