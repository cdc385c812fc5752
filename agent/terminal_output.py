"""How a diagnosis looks on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..case import Diagnosis, Fusion, Opinion, SimilarCase
from .exit_codes import visible
from .reports.view import confidence_words, generalist_words, reliability_words, shares

_BAR = 24
_SHOWN_CASES = 10


def print_diagnosis(diagnosis: Diagnosis, console: Console, *, title: str = "") -> None:
    """Print one diagnosis with all of its evidence.

    Args:
        diagnosis: the result to show.
        console: where it goes.
        title: what the reader calls the case; its id if empty.
    """
    heading = plain(f"{title or diagnosis.case_id} · {diagnosis.task}")
    console.print(Panel(Group(*_sections(diagnosis)), title=heading, title_align="left"))


def plain(text: str, style: str = "") -> Text:
    """Make text that is shown as it is: no markup, and nothing that steers the terminal."""
    return Text(visible(text), style=style)


def share(value: float | None) -> str:
    """Write a share or probability with two digits, and what is unknown as a dash."""
    return "–" if value is None else f"{value:.2f}"


def verdict(diagnosis: Diagnosis) -> Text:
    """Put the diagnosis in one line, and say where a person must decide."""
    if diagnosis.abstained:
        words = "  a person must decide; this is a suggestion"
        return Text.assemble((visible(verdict_mark(diagnosis)), "bold yellow"), words)
    return plain(verdict_mark(diagnosis), style="bold green")


def verdict_mark(diagnosis: Diagnosis) -> str:
    """Write the diagnosis in a word, with a question mark where a person must decide."""
    label = diagnosis.label or ", ".join(diagnosis.labels) or "none of the options"
    return f"{label}?" if diagnosis.abstained else label


def conflict_words(diagnosis: Diagnosis) -> str:
    """Say in a word or two who disagrees with whom; empty where nobody does."""
    found = diagnosis.conflict
    words = [
        "generalist ≠ panel" if found.generalist_against_panel else "",
        "specialists disagree" if found.specialists_disagree else "",
    ]
    return ", ".join(filter(None, words))


def _sections(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    yield from _answer(diagnosis)
    if diagnosis.probabilities:
        yield _section("Probabilities", _bars(diagnosis.probabilities))
    if diagnosis.fusion is not None and diagnosis.fusion.voices:
        yield _section("Why", _why(diagnosis.fusion))
        if said := generalist_words(diagnosis):
            yield _indented(plain(f"The generalist's own answer: {said}"))
    if diagnosis.evidence.opinions:
        yield _section("Specialists", _opinions(diagnosis.evidence.opinions))
    if diagnosis.evidence.similar_cases:
        yield _section("Similar known cases", _similar(diagnosis.evidence.similar_cases))
    yield from _remarks(diagnosis)
    yield plain(f"\n{diagnosis.disclaimer}", style="dim italic")
    if diagnosis.generalist:
        yield plain(f"{diagnosis.generalist} · prompt {diagnosis.profile}", style="dim")


def _answer(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    if diagnosis.kind.closed:
        yield Text.assemble("Diagnosis   ", verdict(diagnosis))
    if diagnosis.text and not diagnosis.kind.closed:
        yield plain(diagnosis.text)
    if diagnosis.confidence is not None:
        yield plain(f"Confidence  {confidence_words(diagnosis)}")
    if diagnosis.promise:
        yield _indented(plain(diagnosis.promise))
    for reason in diagnosis.reasons:
        yield _indented(plain(reason, style="yellow"))


def _section(title: str, body: RenderableType) -> RenderableType:
    return Group(plain(f"\n{title}", style="bold"), body)


def _columns(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        number = heading in ("probability", "similarity", "log-odds")
        table.add_column(heading, justify="right" if number else "left")
    return table


def _bars(probabilities: Mapping[str, float]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for label, value in sorted(probabilities.items(), key=lambda pair: -pair[1]):
        bar = plain("━" * round(value * _BAR), style="cyan")
        bar.append("─" * (_BAR - round(value * _BAR)), style="dim")
        table.add_row(plain(label), bar, f"{value:.3f}")
    return table


def _why(fusion: Fusion) -> RenderableType:
    """What each source adds to the log-odds of the decision, for and against, as bars."""
    table = _columns("source", "says", "", "log-odds", "")
    for row in shares(fusion):
        bar = "━" * round(row.width * _BAR / 2)
        style = "green" if row.log_odds > 0 else "red"
        table.add_row(
            plain(row.source),
            plain(row.says),
            plain(bar, style=style),
            row.signed,
            plain(row.note, style="dim"),
        )
    parts: list[RenderableType] = [plain(f"For {fusion.decision}, against {fusion.rival}"), table]
    if (known := fusion.counter_example) is not None:
        labels = ", ".join(known.labels) or "none of the options"
        where = known.source or known.id
        parts.append(plain(f"Counter-example: {where}, {labels}, similarity {known.similarity:.2f}"))
    return Group(*parts)


def _opinions(opinions: Iterable[Opinion]) -> Table:
    table = _columns("specialist", "says", "probability", "reliability", "architecture")
    for opinion in opinions:
        says = ", ".join(opinion.labels) or opinion.text or "none of the options"
        stated = [opinion.probabilities[label] for label in opinion.labels if label in opinion.probabilities]
        table.add_row(
            plain(opinion.specialist),
            plain(says),
            share(min(stated) if stated else None),
            plain(reliability_words(opinion) or "–"),
            plain(opinion.architecture),
        )
    return table


def _similar(cases: Iterable[SimilarCase]) -> Table:
    listed = list(cases)
    table = _columns("similarity", "diagnosis", "source")
    for case in listed[:_SHOWN_CASES]:
        labels = ", ".join(case.labels) or "none of the options"
        table.add_row(f"{case.similarity:.3f}", plain(labels), plain(case.source or case.id))
    if len(listed) > _SHOWN_CASES:
        table.add_row("", plain(f"and {len(listed) - _SHOWN_CASES} more", style="dim"), "")
    return table


def _remarks(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    if lines := list(_lines(diagnosis)):
        yield _section("Evidence", Group(*map(_indented, lines)))


def _lines(diagnosis: Diagnosis) -> Iterator[Text]:
    gate, conflict = diagnosis.evidence.gate, diagnosis.conflict
    for item in diagnosis.evidence.missing:
        yield plain(f"missing {item.source}: {item.reason}", style="red")
    if words := conflict_words(diagnosis):
        yield plain(f"conflict: {words}", style="yellow")
    if conflict.panel_share is not None or conflict.similar_share is not None:
        shares = f"specialists {share(conflict.panel_share)}, similar cases {share(conflict.similar_share)}"
        yield plain(f"agreement with the diagnosis: {shares}")
    if gate.task_chosen:
        yield plain(f"task chosen from the image, probability {share(gate.task_probability)}")
    if gate.familiar is False:
        yield plain("far from every known case of this task", style="yellow")
    yield from (plain(note) for note in gate.notes if note not in diagnosis.reasons)


def _indented(line: Text) -> RenderableType:
    return Padding(line, (0, 0, 0, 2))
