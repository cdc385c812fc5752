"""A conversation as bubbles of a chat. Pure: pictures and cards are looked up by who calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ...case import Diagnosis
from .fragments import asking, lines, plain
from .unfolding import Unfolding

if TYPE_CHECKING:
    from ..records import ThreadRecord

    Pictured = Callable[[Sequence[str]], str]
    """A fragment that shows images, by their ids."""
    Carded = Callable[[Diagnosis], str]
    """A fragment that tells a diagnosis in short."""


@dataclass(frozen=True)
class Bubble:
    """What one side said, as HTML: a fragment, words, or both."""

    role: Literal["user", "assistant"]
    fragment: str = ""
    words: str = ""


def told(record: ThreadRecord, pictured: Pictured, carded: Carded) -> list[Bubble]:
    """A conversation as it stands: what was said, and below each answer what was decided."""
    bubbles: list[Bubble] = []
    turn: str | None = None
    for one in record.said:
        if one.role == "user":
            bubbles += _decided(record, turn, carded)
            turn = one.turn
            bubbles += asked(one.text, pictured(one.images) if one.images else "")
        elif one.role == "assistant" and one.text:
            bubbles.append(Bubble("assistant", words=plain(one.text)))
    return [*bubbles, *_decided(record, turn, carded)]


def asked(text: str, pictures: str = "") -> Iterator[Bubble]:
    """What the user says: images, then words."""
    if pictures:
        yield Bubble("user", fragment=pictures)
    if text:
        yield Bubble("user", words=plain(text))


def answered(turn: Unfolding, carded: Carded) -> Iterator[Bubble]:
    """What the generalist says in a turn that unfolds, and what comes of it."""
    if turn.words:
        yield Bubble("assistant", words=plain(turn.words))
    if turn.doing:
        return
    yield from (Bubble("assistant", fragment=carded(one)) for one in turn.diagnoses)
    if turn.notes:
        yield Bubble("assistant", fragment=lines(turn.notes))
    if turn.review is not None:
        yield Bubble("assistant", fragment=asking(turn.review.reasons))


def _decided(record: ThreadRecord, turn: str | None, carded: Carded) -> Iterator[Bubble]:
    for finding in record.findings:
        if finding.turn == turn and finding.diagnosis is not None:
            yield Bubble("assistant", fragment=carded(finding.diagnosis))
