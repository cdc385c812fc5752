"""The report of a run, or of several: a page and Markdown to read, JSON to go on with."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import NamedTuple

from ..case import Record
from ..errors import ConfigurationError
from ..models.journal import read_log, write_atomically
from .metrics.uncertainty import ROUNDS
from .overall import Overall, Scored, overall
from .records import OUTCOMES, RUN_CARD, Outcome, RunCard, read_run_card
from .reports.markdown import markdown
from .scoring import Draws, Scores, scored
from .texts import TextScore, text_scores

MARKDOWN, JSON, PAGE = "report.md", "report.json", "report.html"


class RunReport(Record):
    """One run: what it was, and its numbers."""

    run: RunCard
    finished: int
    """Cases that every arm has finished; the numbers are over these."""
    stale: int
    """Outcomes of an earlier configuration in the same folder, which are left out."""
    scores: Scores | None = None
    """Of a closed task."""
    texts: tuple[TextScore, ...] = ()
    """Of an open task."""


class Report(Record):
    """One or several runs, and what they are together."""

    runs: tuple[RunReport, ...]
    overall: Overall | None = None
    """Of several runs of closed tasks."""


class Current(NamedTuple):
    """The outcomes of a run that count: by arm, in the same order of cases."""

    run: RunCard
    outcomes: dict[str, list[Outcome]]
    finished: int
    stale: int


def report(
    folder: Path, *, page: bool = True, images: bool = True, rounds: int = ROUNDS, seed: int = 0
) -> Report:
    """Score the runs in a folder and write ``report.html``, ``report.md`` and ``report.json`` there.

    The page needs matplotlib; without it the other two are written all the same.

    Args:
        folder: of one run, or with the folders of several.
        page: write the page too.
        images: show images of cases in the page, where the image store still has them.
        rounds: bootstrap draws.
        seed: of the draws.

    Raises:
        ConfigurationError: there is no run, or a file of it is damaged.
    """
    homes = runs_in(folder)
    runs = [current(home) for home in homes]
    several = [_scored(run, rounds, seed) for run in runs]
    sets = [
        Scored(home.name, one.scores, draws)
        for home, (one, draws) in zip(homes, several, strict=True)
        if one.scores is not None
    ]
    together = overall(sets) if len(sets) > 1 else None
    found = Report(runs=tuple(one for one, _ in several), overall=together)
    write_atomically(folder / JSON, found.model_dump_json(indent=1) + "\n")
    write_atomically(folder / MARKDOWN, markdown(found))
    if page:
        _write_page(folder, homes, runs, found, images)
    return found


def runs_in(folder: Path) -> list[Path]:
    """List the folders of the runs in a folder; it may be one itself.

    Raises:
        ConfigurationError: there is none.
    """
    if (folder / RUN_CARD).exists():
        return [folder]
    if runs := sorted(card.parent for card in folder.glob(f"*/{RUN_CARD}")):
        return runs
    raise ConfigurationError(f"no run in {folder}: neither it nor a folder in it has a {RUN_CARD}")


def report_of(folder: Path, *, rounds: int = ROUNDS, seed: int = 0) -> RunReport:
    """Score one run. Of a run that is not finished, the cases that all arms have seen."""
    return _scored(current(folder), rounds, seed)[0]


def current(folder: Path) -> Current:
    """Read the outcomes of a run that are of its present configuration; the last one of each counts.

    Raises:
        ConfigurationError: it is no run, or a file of it is damaged.
    """
    run = read_run_card(folder)
    latest: dict[tuple[str, str], Outcome] = {}
    stale = 0
    dropped = frozenset(run.leakage.dropped)
    for outcome in read_log(folder / OUTCOMES, Outcome):
        if outcome.case in dropped:
            # Of an earlier run into this folder that did not drop what the bank knows.
            stale += 1
            continue
        if run.arms.get(outcome.arm) == outcome.configuration and outcome.task_version == run.task.version:
            latest[outcome.arm, outcome.case] = outcome
        else:
            stale += 1
    cases = sorted({case for _, case in latest})
    finished = [case for case in cases if all((arm, case) in latest for arm in run.arms)]
    outcomes = {arm: [latest[arm, case] for case in finished] for arm in run.arms}
    return Current(run, outcomes, len(finished), stale)


def _scored(found: Current, rounds: int, seed: int) -> tuple[RunReport, Draws]:
    # The draws of different sets must not go together, or their mean would seem too uncertain or too sure.
    own = seed + zlib.crc32(found.run.dataset.encode())
    one = RunReport(run=found.run, finished=found.finished, stale=found.stale)
    if not found.run.task.kind.closed:
        texts = text_scores(found.run.task, found.outcomes, rounds=rounds, seed=own)
        return one.model_copy(update={"texts": texts}), {}
    scores, draws = scored(found.run.task, found.outcomes, rounds=rounds, seed=own)
    return one.model_copy(update={"scores": scores}), draws


def _write_page(folder: Path, homes: list[Path], runs: list[Current], found: Report, images: bool) -> None:
    try:
        from .reports.page import page
    except ModuleNotFoundError as error:
        if error.name not in ("matplotlib", "jinja2"):
            raise
        return
    write_atomically(folder / PAGE, page(found, runs, homes, images=images))
