"""Published numbers beside our own, on the sets that both are about."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..case import Record
from .metrics.uncertainty import Estimate
from .reports.blocks import Block, Table
from .reports.markdown import written

if TYPE_CHECKING:
    from .report import RunReport

_FILE = Path(__file__).with_name("published.toml")
RESULTS = Path(__file__).with_name("results") / "open"
"""The run that the project's own numbers come from."""


class Published(Record):
    """One published row."""

    set: str
    """Name of the data set in the registry."""
    method: str
    by: str
    accuracy: float | None = None
    auroc: float | None = None
    score: float | None = None
    """Of questions: as the source counts it."""
    remark: str = ""


def published() -> list[Published]:
    """List the published numbers that are known."""
    listed = tomllib.loads(_FILE.read_text(encoding="utf-8"))["numbers"]
    return [Published.model_validate(entry) for entry in listed]


def beside(folder: Path | None = None) -> str:
    """Write published and own numbers as Markdown; only sets that both have.

    Args:
        folder: of our runs; None means those that come with gsco.

    Raises:
        ConfigurationError: there is no run in the folder.
    """
    runs = _reports(folder)
    lines = ["# Published numbers and ours", "", *written(_blocks(runs))]
    return "\n".join(lines)


def _reports(folder: Path | None) -> dict[str, RunReport]:
    from .report import Report, report_of, runs_in

    if folder is None:
        stored = RESULTS / "report.json"
        if not stored.exists():
            return {}
        return {one.run.dataset: one for one in Report.model_validate_json(stored.read_bytes()).runs}
    return {(one := report_of(home)).run.dataset: one for home in runs_in(folder)}


def _blocks(runs: dict[str, RunReport]) -> Iterator[Block]:
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
            (one.method, _plain(one.accuracy), _plain(one.auroc), _plain(one.score), one.by, one.remark)
            for one in known
            if one.set == name
        ]
        own = [(f"ours: {arm}", *numbers, "", "") for arm, *numbers in _own(runs[name])]
        yield f"## {name}"
        yield Table(("method", "accuracy", "AUROC", "score", "source", "remark"), [*rows, *own])


def _own(one: RunReport) -> Iterator[tuple[str, str, str, str]]:
    for arm in one.scores.arms if one.scores is not None else ():
        yield arm.arm, _told(arm.metrics.get("accuracy")), _told(arm.metrics.get("auroc")), "–"
    for text in one.texts:
        closed = _told(text.metrics.get("closed_accuracy"))
        yield text.arm, "–", "–", f"closed {closed}, open F1 {_told(text.metrics.get('open_f1'))}"


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _told(found: Estimate | None) -> str:
    return "–" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
