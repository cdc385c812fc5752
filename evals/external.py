"""Measuring a pack on the images of another site. Nothing is fitted, trained or stored."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..agent.packs.verification import CheckedPack, checked_pack
from ..errors import ConfigurationError
from ..models.data.report import DataReport, inspect
from ..models.dataset import Columns, Dataset
from .arms import GSCO, KNN, MEAN, VOTE
from .runner import replay, run_context_of

if TYPE_CHECKING:
    from ..settings import Settings
    from .plan import Plan
    from .replay import Finished

ARMS = ("specialists", VOTE.name, MEAN.name, KNN.name, GSCO.name)
"""What is measured unless arms are named."""


@dataclass(frozen=True)
class ExternalRun:
    """What became of the measurement."""

    data: DataReport
    finished: Finished
    digest: str
    """Of the pack."""


def evaluate_pack(
    pack: Path,
    source: Path,
    out: Path,
    settings: Settings,
    plan: Plan,
    *,
    columns: Columns | None = None,
    quiet: bool = False,
) -> ExternalRun:
    """Run a pack, as it is, over every image of a data set.

    Args:
        pack: the file.
        source: see ``read_dataset``; its splits do not matter, all images are test images.
        out: folder of the run; the same call goes on with one that was stopped.
        settings: of the installation; its own specialists, tasks and case store take no part.
        plan: which arms, and how cases are diagnosed.
        columns: of a table that names them otherwise.
        quiet: show no progress.

    Raises:
        ConfigurationError: the pack cannot be used, a label is none of its options, no image can be read, or
            OUT holds the run of another pack.
    """
    with checked_pack(pack, settings.home / "packs") as checked:
        report = inspect(source, task=checked.task, columns=columns, embed=False, quiet=quiet)
        if not report.usable.items:
            raise ConfigurationError(f"data set {report.dataset.name} has no image that can be read")
        _claim(out, checked.manifest.digest)
        with run_context_of(_settings_of(checked, settings), plan) as bench:
            finished = replay(bench, _all_test(report), checked.task, out, plan=plan, quiet=quiet)
        return ExternalRun(report, finished, checked.manifest.digest)


def _claim(out: Path, digest: str) -> None:
    """Note in the folder of the run which pack it measures."""
    note = out / "pack.json"
    if note.is_file() and json.loads(note.read_text(encoding="utf-8")).get("digest") != digest:
        raise ConfigurationError(f"{out} holds the run of another pack; name another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"digest": digest}) + "\n", encoding="utf-8")


def _settings_of(pack: CheckedPack, settings: Settings) -> Settings:
    tasks = pack.folder / "tasks"
    tasks.mkdir()
    card = {**pack.task.model_dump(mode="json"), "override": True}
    (tasks / f"{pack.task.name}.json").write_text(json.dumps(card), encoding="utf-8")
    return settings.model_copy(
        update={
            "home": pack.folder / "home",
            "images": settings.image_folder,
            "tasks": tasks,
            "specialists": pack.specialists,
            "case_store": str(pack.store) if pack.cases else "",
        }
    )


def _all_test(report: DataReport) -> Dataset:
    """Every readable image of the source as a test image, contradictory labels left out."""
    usable = {item.path for item in report.usable.items}
    kept = [item for item in report.dataset.items if item.path in usable]
    return replace(report.usable, items=tuple(replace(item, split="test") for item in kept))
