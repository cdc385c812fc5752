"""How events read in a client that knows nothing of gsco: an answer in words, and tools as reasoning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...case import DISCLAIMER
from ...graphs.explanation.sentences import percent

if TYPE_CHECKING:
    from ...graphs.events import Event, Final, ReviewRequested


FOOTER = "**Record (gsco)**"
"""Begins the part of an answer that is the record's and not the generalist's. Clients send it back."""
_INSTEAD = "**The answer as recorded:**"


def reasoning(event: Event) -> str:
    """One event as a line of reasoning; empty for what is no reasoning."""
    if event.kind == "tool_started":
        given = ", ".join(f"{name}={value}" for name, value in event.arguments.items() if value)
        return f"{event.name}({given})\n"
    if event.kind == "tool_finished":
        return f"{'could not: ' if event.failed else ''}{event.text}\n\n"
    return ""


def footer(final: Final) -> str:
    """What follows the generalist's words: the decision in figures, and what to know. May be empty."""
    lines = list(_footer(final))
    return "\n\n".join([FOOTER, *lines]) if lines else ""


def after_stream(final: Final, spoken: str) -> str:
    """What follows words that were streamed already: the footer, and the answer where it is another one."""
    if "".join(spoken.split()) == "".join(final.text.split()):
        answer = ""
    else:
        answer = f"{_INSTEAD}\n\n{final.text}" if spoken.strip() else final.text
    return "\n\n".join(filter(None, [answer, footer(final)]))


def without_footer(answer: str) -> str:
    """An earlier answer as the generalist gave it: without the footer, and as it was recorded."""
    words, found, _ = answer.rpartition(FOOTER)
    return (words if found else answer).rpartition(_INSTEAD)[2].strip()


def review_question(review: ReviewRequested, thread: str) -> str:
    """What is said where a person must decide first."""
    proposed = ", ".join(review.diagnosis.labels) or review.diagnosis.text or "none of the options"
    why = "\n".join(f"- {reason}" for reason in review.reasons)
    return (
        f"{FOOTER}\n\n**A person must decide before this can continue.** "
        f"Proposed ({review.diagnosis.task}): {proposed}\n\n"
        f"{why}\n\nA reviewer answers with `POST /v1/threads/{thread}/decision`: approve, edit or reject."
        f"\n\n_{DISCLAIMER}_"
    )


def _footer(final: Final) -> Iterator[str]:
    for one in final.diagnoses:
        if not one.kind.closed:
            continue
        said = ", ".join(one.labels) or "none of the options"
        sure = "" if one.confidence is None else f", confidence {percent(one.confidence)}"
        doubt = "; **a person must decide**" if one.abstained else ""
        yield f"**Decision ({one.task}): {said}**{sure}{doubt}"
        if one.promise:
            yield f"_{one.promise}_"
        if one.review is not None:
            decision = one.review.decision
            yield f"Reviewed by {decision.reviewer}: {decision.action}. {decision.reason}".strip()
        if one.abstained:
            yield "\n".join(f"- {reason}" for reason in one.reasons)
    yield from (f"_{note}_" for note in final.notes)
    if final.diagnoses:
        yield f"_{DISCLAIMER}_"
