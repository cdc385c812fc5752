"""A conversation as bubbles of a chat. Pure: pictures and cards are looked up by who calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ...case import Diagnosis
from .fragments import lines, plain, review_form
from .turn_state import TurnState

if TYPE_CHECKING:
    from ...graphs.events import ReviewRequested
    from ..records import ThreadRecord

    Pictured = Callable[[Sequence[str]], str]
    """A fragment that shows images, by their ids."""
    Carded = Callable[[Diagnosis, str], str]
    """A fragment that tells what the words about a diagnosis do not say; may be empty."""


@dataclass(frozen=True)
class Bubble:
    """What one side said, as HTML: a fragment, words, or both."""

    role: Literal["user", "assistant"]
    fragment: str = ""
    words: str = ""


def bubbles_of(
    record: ThreadRecord, pictured: Pictured, carded: Carded, review: ReviewRequested | None = None
) -> list[Bubble]:
    """A conversation as it stands: what was said, and below each answer what was decided.

    Args:
        record: the conversation.
        pictured: shows images.
        carded: tells a diagnosis.
        review: what a person is asked at present.
    """
    bubbles: list[Bubble] = []
    turn, words = None, ""
    for one in record.said:
        if one.role == "user":
            bubbles += _decided(record, turn, carded, words)
            turn, words = one.turn, ""
            bubbles += user_bubbles(one.text, pictured(one.images) if one.images else "")
        elif one.role == "assistant" and one.text:
            words += f"{one.text}\n"
            bubbles.append(Bubble("assistant", words=plain(one.text)))
    bubbles += _decided(record, turn, carded, words)
    return [*bubbles, Bubble("assistant", fragment=review_form(review.reasons))] if review else bubbles


def user_bubbles(text: str, pictures: str = "") -> Iterator[Bubble]:
    """What the user says: images, then words."""
    if pictures:
        yield Bubble("user", fragment=pictures)
    if text:
        yield Bubble("user", words=plain(text))


def answered(turn: TurnState) -> Iterator[Bubble]:
    """What the generalist has said in a turn that unfolds."""
    if turn.words:
        yield Bubble("assistant", words=plain(turn.words))


def remarks(turn: TurnState) -> Iterator[Bubble]:
    """What a reader must know of a turn that is over, besides what is kept of it."""
    if turn.notes:
        yield Bubble("assistant", fragment=lines(turn.notes))


def _decided(record: ThreadRecord, turn: str | None, carded: Carded, words: str) -> Iterator[Bubble]:
    for finding in record.findings:
        if finding.turn != turn or finding.diagnosis is None:
            continue
        if card := carded(finding.diagnosis, words):
            yield Bubble("assistant", fragment=card)
