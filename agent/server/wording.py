"""How events read in a client that knows nothing of gsco: an answer in words, and tools as reasoning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...case import DISCLAIMER

if TYPE_CHECKING:
    from ...graphs.events import Event, Final, ReviewAsked


_DECISION = "**Decision ("
_INSTEAD = "**Corrected by the evidence:**"


def reasoning(event: Event) -> str:
    """One event as a line of reasoning; empty for what is no reasoning."""
    if event.kind == "tool_started":
        given = ", ".join(f"{name}={value}" for name, value in event.arguments.items() if value)
        return f"{event.name}({given})\n"
    if event.kind == "tool_finished":
        return f"{'could not: ' if event.failed else ''}{event.text}\n\n"
    return ""


def closing(final: Final, *, corrected: bool = False) -> str:
    """What follows the generalist's words: where a decision was made, it in figures, and what to know.

    Args:
        final: how the turn ended.
        corrected: the words were streamed and cannot be taken back: what stands in their place is told.
    """
    return "\n\n".join(_closing(final, corrected))


def _closing(final: Final, corrected: bool) -> Iterator[str]:
    for one in final.diagnoses:
        if not one.kind.closed:
            continue
        said = ", ".join(one.labels) or "none of the options"
        sure = "" if one.confidence is None else f", confidence {100 * one.confidence:.0f} %"
        doubt = "; **a person must decide**" if one.abstained else ""
        yield f"{_DECISION}{one.task}): {said}**{sure}{doubt}"
        if one.review is not None:
            decision = one.review.decision
            yield f"Reviewed by {decision.reviewer}: {decision.action}. {decision.reason}".strip()
        if one.abstained:
            yield "\n".join(f"- {reason}" for reason in one.reasons)
    yield from (f"_{note}_" for note in final.notes)
    if final.diagnoses:
        yield f"_{DISCLAIMER}_"


def bare(answer: str) -> str:
    """An earlier answer without what ``closing`` put below the generalist's words, or had to correct."""
    paragraphs = answer.rpartition(_INSTEAD)[2].strip().split("\n\n")
    return "\n\n".join(
        one for one in paragraphs if not one.startswith((_DECISION, "_", "Reviewed by ", "- "))
    )


def asking(review: ReviewAsked, thread: str) -> str:
    """What is said where a person must decide first."""
    proposed = ", ".join(review.diagnosis.labels) or review.diagnosis.text or "none of the options"
    why = "\n".join(f"- {reason}" for reason in review.reasons)
    return (
        f"**A person must decide before this goes on.** Proposed ({review.diagnosis.task}): {proposed}\n\n"
        f"{why}\n\nA reviewer answers with `POST /v1/threads/{thread}/decision`: approve, edit or reject."
        f"\n\n_{DISCLAIMER}_"
    )
