"""``gsco eval certificate``, ``gsco eval drift`` and ``gsco eval faces``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..agent.api import GSCo
    from ..case import Record
    from ..graphs.drift import DriftScores
    from .certainty import DriftStudy

Runs = Annotated[
    list[Path], typer.Argument(metavar="RUN", show_default=False, help="Folders of finished runs.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one record per line.")]


def certificate(
    runs: Runs,
    max_error: Annotated[
        float, typer.Option(metavar="SHARE", help="Of the answers given alone so many may be wrong.")
    ] = 0.05,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="Random resplits by group.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Test the certificates of a run on held-out patients.

    Half of the patients certify, the other half tests; violated limits are counted over many such splits.
    The decisions are those of the product's own arm, so the cases of the run must not have been used for a
    fit.
    """
    from .certainty import decided_cases, study_certificate

    found = [
        study_certificate(task.name, cases, max_error, rounds=rounds)
        for task, cases in map(decided_cases, runs)
    ]
    rows = [
        (
            one.task,
            str(one.groups),
            f"{one.refused:.0%}",
            f"{one.broken:.1%}",
            f"{one.error:.1%}",
            f"{one.coverage:.0%}",
            f"{one.best:.0%}",
        )
        for one in found
    ]
    headings = ("task", "patients", "refused", "broken", "error", "answered alone", "best possible")
    _print(found, headings, rows, as_json)


def drift(
    runs: Runs,
    images: Annotated[
        int, typer.Option(metavar="N", min=0, help="Images that are corrupted in four ways; 0: none.")
    ] = 200,
    as_json: AsJson = False,
) -> None:
    """Count drift alarms over streams of cases.

    The streams are the cases of the run, and the same cases with inverted, blurred, compressed or cropped
    images; false alarms are counted on cases of a run against others of the same run.
    """
    from ..agent.api import GSCo
    from .certainty import decided_cases, scores_by_group, study_drift, study_false_alarms

    found: list[DriftStudy] = []
    with GSCo.from_settings(drift="off") as gsco:
        for folder in runs:
            task, cases = decided_cases(folder)
            fit = gsco.fits(task.name)
            if fit is None:
                typer.echo(f"{task.name} has no fit: run gsco fit {task.name} first", err=True)
                raise typer.Exit(2)
            own = scores_by_group(cases)
            found.append(study_drift(task.name, "the run's cases", fit.reference, own))
            # Streams of a thousand cases where there are so many, and as long ones as can be had elsewhere.
            reference = max(len(own) - 1000, len(own) // 8)
            found.append(study_false_alarms(task.name, own, reference=reference))
            for name, scores in _corrupted(gsco, folder, images).items():
                found.append(study_drift(task.name, name, fit.reference, scores))
    rows = [
        (
            one.task,
            one.stream,
            str(one.cases),
            f"{one.rang:.0%}",
            "" if one.median is None else f"{one.median:.0f}",
        )
        for one in found
    ]
    _print(found, ("task", "stream", "cases", "alarms", "median"), rows, as_json)


def faces(
    runs: Runs,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="A random sample of so many cases.")] = 100,
    seed: Annotated[int, typer.Option(metavar="N", help="Draws it.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare the decisions of page, API and Python with a run.

    Cases of the run are diagnosed again in each of them; labels and probabilities must be those of the arm
    that ships. Exit status 3: a decision differs.
    """
    from tempfile import TemporaryDirectory

    from ..agent.api import GSCo
    from .faces import compare_faces

    with TemporaryDirectory() as folder:
        kept = str(Path(folder) / "conversations.sqlite")
        with GSCo.from_settings(drift="off", gate="warn", conversations=kept) as gsco:
            found = [one for run in runs for one in compare_faces(gsco, run, limit=limit, seed=seed)]
    rows = [(one.task, one.face, str(one.cases), str(one.same), f"{one.difference:.1e}") for one in found]
    _print(found, ("task", "face", "cases", "same decision", "largest difference"), rows, as_json)
    if any(one.same < one.cases for one in found):
        raise typer.Exit(3)


def _corrupted(gsco: GSCo, folder: Path, images: int) -> dict[str, list[DriftScores]]:
    import asyncio
    import random

    from .._support.progress import Progress
    from ..graphs.drift import drift_scores
    from .certainty import CORRUPTIONS, decided_cases

    task, cases = decided_cases(folder)
    refs = sorted({case.sha256 for case in cases})
    random.Random(0).shuffle(refs)
    chosen = refs[:images]
    scores: dict[str, list[DriftScores]] = {}

    async def score(name: str, sha256: str, progress: Progress) -> DriftScores | None:
        image = CORRUPTIONS[name](gsco.images.get(f"img-{sha256[:12]}"))
        found = drift_scores(await gsco.aevidence(image, task=task, gate="off"))
        progress.advance()
        return found

    async def every(name: str, progress: Progress) -> list[DriftScores]:
        made = await asyncio.gather(*(score(name, sha256, progress) for sha256 in chosen))
        return [one for one in made if one is not None]

    with Progress(f"corrupting {task.name}", len(chosen) * len(CORRUPTIONS)) as progress:
        for name in CORRUPTIONS if chosen else ():
            scores[name] = asyncio.run(every(name, progress))
    return scores


def _print(
    found: Sequence[Record], headings: Sequence[str], rows: Sequence[Sequence[str]], as_json: bool
) -> None:
    """Print records, one a line as JSON or all as a table."""
    from rich.console import Console
    from rich.table import Table

    if as_json:
        for one in found:
            typer.echo(one.model_dump_json())
        return
    table = Table(*headings, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
