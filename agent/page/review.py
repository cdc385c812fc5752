"""A person's decision on a diagnosis, where a conversation waits for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import gradio as gr
from pydantic import ValidationError

from ...case import ReviewDecision
from ...errors import ReviewRefused
from ..configuration import plain
from .components import PageComponents, Updates
from .conversation_panel import QUIET, listed, place_of, visitor
from .fragments import alert
from .session import ChatSession

if TYPE_CHECKING:
    from ..auth import Reviewers


def reviewing(room: ChatSession, reviewers: Reviewers, parts: PageComponents) -> None:
    """Wire the form.

    Args:
        room: where it is decided.
        reviewers: who may decide, and under which name.
        parts: of the page.
    """

    def needed(action: str) -> Updates:
        return {
            parts.labels: gr.Dropdown(visible=action == "edit"),
            parts.reason: gr.Textbox(visible=action != "approve"),
        }

    async def decide(
        thread: str,
        action: str,
        labels: str | list[str] | None,
        reason: str,
        reviewer: str,
        request: gr.Request,
    ) -> AsyncIterator[Updates]:
        user = visitor(request)
        try:
            owner, name = place_of(user, thread)
            reviewers.check(user, owner)
            signature = reviewers.signature(user, reviewer or "")
            decision = decision_of(action, labels, reason or "", signature)
        except (ValueError, ReviewRefused) as error:
            yield {parts.alert: alert(str(error))}
            return
        yield {parts.review: gr.Group(visible=False), parts.alert: ""}
        async for shown in room.decided(owner, name, decision):
            yield parts.updates(shown)
        yield {
            parts.threads: await listed(room, reviewers, user, thread),
            parts.action: "approve",
            parts.reason: gr.Textbox("", visible=False),
            parts.labels: gr.Dropdown(visible=False),
        }

    parts.action.change(needed, [parts.action], [parts.labels, parts.reason], **QUIET)
    given = [parts.thread, parts.action, parts.labels, parts.reason, parts.reviewer]
    parts.decide.click(decide, given, parts.all(), **QUIET)


def decision_of(action: str, labels: str | list[str] | None, reason: str, reviewer: str) -> ReviewDecision:
    """What the form says.

    Raises:
        ValueError: something is left out; the message says what.
    """
    chosen = [labels] if isinstance(labels, str) else list(labels or ())
    if not reviewer.strip():
        raise ValueError("Say who decides: your name or a pseudonym.")
    if action != "approve" and not reason.strip():
        raise ValueError("Give a reason: it becomes part of the record.")
    if action == "edit" and not chosen:
        raise ValueError("Choose the right label.")
    try:
        return ReviewDecision.model_validate(
            {
                "action": action,
                "reviewer": reviewer.strip(),
                "reason": "" if action == "approve" else reason.strip(),
                "labels": chosen if action == "edit" else [],
            }
        )
    except ValidationError as error:
        raise ValueError(f"The decision does not fit: {plain(error)}") from None
