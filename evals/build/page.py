"""The report of a build: one page that needs nothing else, the verdict first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ... import __version__
from ..._support.jsonl import write_atomically
from ...agent.builds import group_mark
from ...case import DISCLAIMER, TaskKind
from ..arms import GSCO
from ..outcomes import current, gathered
from ..records import CaseEvidence, Outcome
from ..report import report_of
from ..reports.gallery import data_address, thumbnail
from .checklist import checklist
from .record import BASELINE, BuildRecord

if TYPE_CHECKING:
    from ...images import ImageStore
    from ..reports.contents import RunReport

_TEMPLATES = Path(__file__).parent / "templates"
_SIDE = 96
_EXAMPLES = 6


class PageExample(NamedTuple):
    """One test image as a reader sees it."""

    mark: str
    """Hash of its group, by which it is found when that is erased."""
    image: str
    """Data address."""
    truth: str
    said: str
    confidence: str


def write_page(record: BuildRecord, path: Path, run: Path, images: Path) -> None:
    """Write the report of a build.

    Args:
        record: what the build came to.
        path: of the page.
        run: folder of the run over the test images.
        images: folder of their image store.
    """
    import jinja2

    from ...images import ImageStore

    found, outcomes = report_of(run, seed=record.seed), current(run).outcomes.get(GSCO.name, [])
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    store = ImageStore(images)
    evidence = gathered(run, found.run)
    page = environment.get_template("build.html.jinja").render(
        record=record,
        own=own.accuracy if (own := record.arm(GSCO.name)) else None,
        baseline=BASELINE,
        figure=_figure(found),
        confusion=_confusion(record, outcomes),
        labels=list(record.counts),
        helped=_examples([one for one in outcomes if one.right], evidence, store),
        hurt=_examples([one for one in outcomes if not one.right and not one.error], evidence, store),
        best=_against_best(record, run),
        checklist=checklist(record),
        disclaimer=DISCLAIMER,
        version=__version__,
    )
    write_atomically(path, page)


def _figure(found: RunReport) -> str:
    """Accuracies, reliability and risk against coverage, as a data address; empty without matplotlib."""
    try:
        from ..reports.figures import overview_png

        scores = found.scores
        return "" if scores is None else data_address("png", overview_png(scores.arms, scores.best_source))
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        return ""


def _confusion(record: BuildRecord, outcomes: Sequence[Outcome]) -> list[tuple[str, list[int]]]:
    """Of each true label, how often each label was said; of several labels, right and missed and false."""
    if record.kind is TaskKind.MULTILABEL:
        rows = []
        for label in record.counts:
            truth = [label in one.truth for one in outcomes]
            said = [label in one.labels for one in outcomes]
            pairs = Counter(zip(truth, said, strict=True))
            rows.append((label, [pairs[True, True], pairs[True, False], pairs[False, True]]))
        return rows
    said = Counter((one.truth[0], one.labels[0] if one.labels else "") for one in outcomes if one.truth)
    return [(label, [said[label, other] for other in record.counts]) for label in record.counts]


def _against_best(record: BuildRecord, run: Path) -> dict[str, int]:
    """How often the collaboration was right where the best single source was wrong, and the other way."""
    outcomes = current(run).outcomes
    both = zip(outcomes.get(GSCO.name, ()), outcomes.get(record.best_source, ()), strict=False)
    pairs = Counter((own.right, other.right) for own, other in both)
    return {"helped": pairs[True, False], "hurt": pairs[False, True]}


def _examples(
    outcomes: Sequence[Outcome], evidence: Mapping[str, CaseEvidence], store: ImageStore
) -> list[PageExample]:
    """The surest ones, one of each label in turn."""
    surest = sorted(outcomes, key=lambda one: -(one.confidence or 0.0))
    seen: Counter[tuple[str, ...]] = Counter()
    ranked = []
    for one in surest:
        ranked.append((seen[one.truth], -(one.confidence or 0.0), one.case, one))
        seen[one.truth] += 1
    chosen = [one for *_, one in sorted(ranked, key=lambda entry: entry[:3])[:_EXAMPLES]]
    return [
        PageExample(
            group_mark(one.group),
            thumbnail(evidence[one.case].sha256, store, _SIDE) if one.case in evidence else "",
            " + ".join(one.truth) or "none",
            " + ".join(one.labels) or "none",
            "" if one.confidence is None else f"{one.confidence:.2f}",
        )
        for one in chosen
    ]
