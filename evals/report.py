"""The report of a run, or of several: a page and Markdown to read, JSON to go on with."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .._support.jsonl import write_atomically
from ..errors import ConfigurationError
from ..models.metrics.draws import ROUNDS
from . import noise
from .abilities.report import abilities_of
from .arbitration.conditions import CONDITIONS as ARBITRATION
from .arbitration.report import arbitration_of
from .metrics.clinical import ClinicalMetric
from .outcomes import Current, current, runs_in
from .overall import SetScores, overall
from .records import RunCard
from .reports.contents import Report, RunReport
from .reports.markdown import markdown
from .scoring import ArmColumn, scored
from .texts import text_scores

MARKDOWN, JSON, PAGE = "report.md", "report.json", "report.html"


def report(
    folder: Path,
    *,
    page: bool = True,
    images: bool = True,
    clinical: Sequence[ClinicalMetric] = (),
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Report:
    """Score the runs in a folder and write ``report.html``, ``report.md`` and ``report.json`` there.

    The page needs matplotlib; without it the other two are written all the same.

    Args:
        folder: of one run, or with the folders of several.
        page: write the page too.
        images: show images of cases in the page, where the image store still has them.
        clinical: further metrics of written reports; see ``metrics.clinical``.
        rounds: bootstrap draws.
        seed: of the draws.

    Raises:
        ConfigurationError: there is no run, or a file of it is damaged.
    """
    homes = runs_in(folder)
    runs = [current(home) for home in homes]
    several = [_scored(home, run, rounds, seed, clinical) for home, run in zip(homes, runs, strict=True)]
    sets = [
        SetScores(home.name, one.scores, columns)
        for home, (one, columns) in zip(homes, several, strict=True)
        if one.scores is not None
    ]
    together = overall(sets) if len(sets) > 1 else None
    found = Report(runs=tuple(one for one, _ in several), overall=together)
    write_atomically(folder / JSON, found.model_dump_json(indent=1) + "\n")
    write_atomically(folder / MARKDOWN, markdown(found))
    if page:
        _write_page(folder, homes, runs, found, images)
    return found


def report_of(folder: Path, *, rounds: int = ROUNDS, seed: int = 0) -> RunReport:
    """Score one run. Of a run that is not finished, the cases that all arms have seen."""
    return _scored(folder, current(folder), rounds, seed)[0]


def _scored(
    home: Path, found: Current, rounds: int, seed: int, clinical: Sequence[ClinicalMetric] = ()
) -> tuple[RunReport, dict[str, ArmColumn]]:
    # The draws of different sets must not go together, or their mean would seem too uncertain or too sure.
    own = seed + zlib.crc32(found.run.dataset.encode())
    under = _under_conditions(home, found.run, rounds, seed)
    one = RunReport(
        run=found.run,
        finished=found.finished,
        stale=found.stale,
        abilities=abilities_of(found),
        **under,
    )
    if not found.run.task.kind.closed:
        texts = text_scores(found.run.task, found.outcomes, clinical=clinical, rounds=rounds, seed=own)
        return one.model_copy(update={"texts": texts}), {}
    scores, columns = scored(
        found.run.task, found.outcomes, best_source=found.run.best_source, rounds=rounds, seed=own
    )
    return one.model_copy(update={"scores": scores}), columns


def _under_conditions(home: Path, run: RunCard, rounds: int, seed: int) -> dict[str, Any]:
    """What the run has shown under conditions, where all of them are finished."""
    found: dict[str, object] = {}
    if run.conditions.keys() >= {condition.name for condition in noise.CONDITIONS}:
        found["noise"] = tuple(noise.noise_rows(home))
    if run.conditions.keys() >= {condition.name for condition in ARBITRATION}:
        with suppress(ConfigurationError):
            found["arbitration"] = arbitration_of([home], rounds=rounds, seed=seed)
    return found


def _write_page(folder: Path, homes: list[Path], runs: list[Current], found: Report, images: bool) -> None:
    try:
        from .reports.page import page
    except ModuleNotFoundError as error:
        if error.name not in ("matplotlib", "jinja2"):
            raise
        return
    write_atomically(folder / PAGE, page(found, runs, homes, images=images))
