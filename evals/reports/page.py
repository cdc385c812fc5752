"""A report as one page that needs nothing else: tables, figures and single cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# Imported here and not where they are used: whoever makes the page is to learn at once that one is missing.
import jinja2
import matplotlib  # noqa: F401

from ...case import DISCLAIMER
from . import figures
from .blocks import sections, together, verdict, verdict_together
from .conditions import condition_blocks
from .gallery import Gallery, galleries

if TYPE_CHECKING:
    from ...images import ImageStore
    from ..outcomes import Current
    from .contents import Report, RunReport

_TEMPLATES = Path(__file__).parent / "templates"


def page(found: Report, runs: Sequence[Current], homes: Sequence[Path], *, images: bool) -> str:
    """Lay a report out as HTML.

    Args:
        found: the report.
        runs: the outcomes that it is about, run by run.
        homes: folders of the runs.
        images: whether to show images of single cases.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    store = _store() if images else None
    parts = [
        {
            "name": home.name,
            "run": one.run,
            "verdict": verdict(one),
            "figure": _figure(one, home.name),
            "sections": [*sections(one), *condition_blocks(one)],
            "galleries": _galleries(home, run, store),
        }
        for one, run, home in zip(found.runs, runs, homes, strict=True)
    ]
    return environment.get_template("report.html.jinja").render(
        parts=parts,
        verdict=verdict_together(found.overall) if found.overall else "",
        figure=figures.means(found.overall.means, "all sets") if found.overall else "",
        overall=list(together(found.overall)) if found.overall else [],
        disclaimer=DISCLAIMER,
    )


def _figure(one: RunReport, name: str) -> str:
    scores = one.scores
    return figures.overview(scores.arms, scores.best_source, name) if scores is not None and scores.n else ""


def _galleries(home: Path, run: Current, images: ImageStore | None) -> list[Gallery]:
    return galleries(home, run.outcomes, images) if run.run.task.kind.closed else []


def _store() -> ImageStore | None:
    from ...agent.configuration import settings_from
    from ...images import ImageStore

    folder = settings_from().image_folder
    return ImageStore(folder) if folder.is_dir() else None
