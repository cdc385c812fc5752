"""Published numbers beside our own, on the sets that both are about."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from ..case import Record
from ..evals.metrics.uncertainty import Estimate
from ..evals.reports.blocks import Block, ReportTable
from ..evals.reports.markdown import written

_FILE = Path(__file__).with_name("published.toml")
RESULTS = Path(__file__).parents[1] / "evals" / "results" / "open" / "scores.json"
"""The project's own numbers, of the suite ``open``."""
_METRICS = TypeAdapter(dict[str, Estimate])


class PublishedRow(Record):
    """One published row."""

    set: str
    """Name of the data set in the registry."""
    method: str
    by: str
    accuracy: float | None = None
    auroc: float | None = None
    f1: float | None = None
    """Of two classes: of the finding."""
    score: float | None = None
    """Of questions: as the source counts it."""
    remark: str = ""


def published() -> list[PublishedRow]:
    """List the published numbers that are known."""
    listed = tomllib.loads(_FILE.read_text(encoding="utf-8"))["numbers"]
    return [PublishedRow.model_validate(entry) for entry in listed]


def beside(folder: Path | None = None) -> str:
    """Write published and own numbers as Markdown; only sets that both have.

    Args:
        folder: of our runs; None means those that come with gsco.

    Raises:
        ConfigurationError: there is no run in the folder.
    """
    runs = _scores(folder)
    lines = ["# Published numbers and ours", "", *written(_blocks(runs))]
    return "\n".join(lines)


class RunMetrics(NamedTuple):
    """The metrics of a run, by arm."""

    closed: Mapping[str, Mapping[str, Estimate]]
    texts: Mapping[str, Mapping[str, Estimate]]


def _scores(folder: Path | None) -> dict[str, RunMetrics]:
    """The runs' metrics, by data set."""
    if folder is None:
        return {one["run"]["dataset"]: _kept(one) for one in json.loads(RESULTS.read_bytes())["runs"]}
    from ..evals.outcomes import runs_in
    from ..evals.report import report_of

    reports = [report_of(home) for home in runs_in(folder)]
    return {one.run.dataset: _kept(one.model_dump(include={"scores", "texts"})) for one in reports}


def _kept(run: Mapping[str, Any]) -> RunMetrics:
    closed = (run["scores"] or {}).get("arms", ())
    return RunMetrics(
        *(
            {arm["arm"]: _METRICS.validate_python(arm["metrics"]) for arm in arms}
            for arms in (closed, run["texts"])
        )
    )


def _blocks(runs: Mapping[str, RunMetrics]) -> Iterator[Block]:
    known = published()
    names = [name for name in dict.fromkeys(one.set for one in known) if name in runs]
    if not names:
        yield "No set has both: run one of " + ", ".join(sorted({one.set for one in known})) + " first."
        return
    yield (
        "Theirs are as published, on the official test split; ours are on that split with the bundled or "
        "freshly trained models, with 95 % intervals. GSCo's authors publish means over data sets and no "
        "table per data set, so that nothing of theirs can stand here."
    )
    for name in names:
        rows = [
            (one.method, *map(_plain, (one.accuracy, one.auroc, one.f1, one.score)), one.by, one.remark)
            for one in known
            if one.set == name
        ]
        own = [(f"ours: {arm}", *numbers, "", "") for arm, *numbers in _own(runs[name])]
        yield f"## {name}"
        yield ReportTable(("method", "accuracy", "AUROC", "F1", "score", "source", "remark"), [*rows, *own])


def _own(one: RunMetrics) -> Iterator[tuple[str, ...]]:
    for arm, metrics in one.closed.items():
        told = [_interval(metrics.get(name)) for name in ("accuracy", "auroc", "binary_f1")]
        yield arm, *told, "–"
    for arm, metrics in one.texts.items():
        closed = _interval(metrics.get("closed_accuracy"))
        yield arm, "–", "–", "–", f"closed {closed}, open F1 {_interval(metrics.get('open_f1'))}"


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(found: Estimate | None) -> str:
    return "–" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
