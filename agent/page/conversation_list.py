"""The list of conversations as HTML: a thumbnail, what was asked and decided, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr
from markupsafe import Markup

if TYPE_CHECKING:
    from ..records import ThreadSummary
    from ..reports.pictures import ReportImage

MARKS = {"review": "awaits a decision", "cut off": "not finished", "ready": ""}
_CHOOSE = """
element.addEventListener('click', (event) => {
    const chosen = event.target.closest('button[data-place]');
    if (chosen) trigger('select', {place: chosen.dataset.place});
});
"""


@dataclass(frozen=True)
class ListedConversation:
    """An entry of the list."""

    place: str
    """What the page opens it by: its name, or ``OWNER/NAME`` for another user's."""
    summary: ThreadSummary
    owner: str = ""
    """Named where it is another user."""


def conversation_list() -> gr.HTML:
    """Lay it out, empty; its event ``select`` names the place that was chosen."""
    return gr.HTML(list_fragment([], None, lambda _: None), elem_id="threads", js_on_load=_CHOOSE)


def list_fragment(
    listed: Sequence[ListedConversation], chosen: str | None, icon: Callable[[str], ReportImage | None]
) -> Markup:
    """Make the list.

    Args:
        listed: the latest first.
        chosen: place of the one that is open.
        icon: the thumbnail of an image by its id; None where it is gone.
    """
    if not listed:
        return Markup('<p class="gsco soft">No conversation is kept yet.</p>')
    items = Markup("").join(_item(one, one.place == chosen, icon) for one in listed)
    return Markup('<ul class="gsco conversations" aria-label="Kept conversations">{}</ul>').format(items)


def _item(one: ListedConversation, chosen: bool, icon: Callable[[str], ReportImage | None]) -> Markup:
    summary = one.summary
    found = icon(summary.image) if summary.image else None
    image = Markup('<img src="{}" alt="">').format(found.address) if found else Markup("<i></i>")
    title = f"{one.owner}: {summary.title}" if one.owner else summary.title
    when = f"{summary.updated.astimezone():%d %b %H:%M}"
    below = " · ".join(filter(None, [when, MARKS[summary.status]]))
    return Markup(
        '<li><button type="button" data-place="{}"{}>{}<span><b>{}</b>{}<small>{}</small></span></button>'
        "</li>"
    ).format(
        one.place,
        Markup(' aria-current="true"') if chosen else "",
        image,
        title or "(an image)",
        Markup("<span>{}</span>").format(summary.decision) if summary.decision else "",
        below,
    )
