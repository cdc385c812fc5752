"""How a diagnosis looks in a notebook: a fragment of HTML that loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .case import Diagnosis

SHOWN_CASES = 5
_BAR = "display:inline-block;height:.7em;background:#4a7fb5;width:{width:.0f}px"


def diagnosis_html(diagnosis: Diagnosis) -> str:
    """Write a diagnosis with its evidence. Every text is escaped: labels and reports may hold anything."""
    return f'<div class="gsco">{"".join(_blocks(diagnosis))}</div>'


def _blocks(diagnosis: Diagnosis) -> Iterator[str]:
    said = diagnosis.label or ", ".join(diagnosis.labels) or diagnosis.text or "none of the options"
    sure = "" if diagnosis.confidence is None else f", {100 * diagnosis.confidence:.0f} %"
    doubt = " – a person must decide" if diagnosis.abstained else ""
    yield f"<p><b>{escape(said)}</b>{sure}{doubt} <small>({escape(diagnosis.task)})</small></p>"
    if diagnosis.promise:
        yield f"<p>{escape(diagnosis.promise)}</p>"
    if diagnosis.review is not None:
        decision = diagnosis.review.decision
        yield f"<p>Reviewed by {escape(decision.reviewer)}: {decision.action}. {escape(decision.reason)}</p>"
    if diagnosis.probabilities:
        yield _table((escape(label), _bar(value)) for label, value in diagnosis.probabilities.items())
    evidence = diagnosis.evidence
    opinions = (
        (one.specialist, ", ".join(one.labels), f"{one.reliability:.2f}") for one in evidence.opinions
    )
    yield _table((map(escape, row) for row in opinions), ("specialist", "says", "reliability"))
    cases = evidence.similar_cases[:SHOWN_CASES]
    known = ((", ".join(one.labels), f"{one.similarity:.2f}") for one in cases)
    yield _table((map(escape, row) for row in known), ("similar case", "similarity"))
    notes = (*diagnosis.reasons, *(f"{one.source}: {one.reason}" for one in evidence.missing))
    if notes:
        yield f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>"
    yield f"<p><small>{escape(diagnosis.disclaimer)}</small></p>"


def _table(rows: Iterable[Iterable[str]], heads: tuple[str, ...] = ()) -> str:
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    head = f"<tr>{''.join(f'<th>{name}</th>' for name in heads)}</tr>" if heads else ""
    return f"<table>{head}{body}</table>" if body else ""


def _bar(value: float) -> str:
    return f'<span style="{_BAR.format(width=120 * value)}"></span> {100 * value:.0f} %'
