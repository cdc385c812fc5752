"""What a case bank knows of the cases of data sets, without running anything on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from .._support.jsonl import write_atomically
from ..case import Case
from ..evals.cases import EvalCase, read_examples
from ..evals.leakage import bank_of, find_leaks, read_bank
from ..evals.records import Leakage

if TYPE_CHECKING:
    from ..evals.datasets.example import OpenDataset, Wanted
    from ..settings import Settings

JSON = "leakage.json"
MARKDOWN = "leakage.md"


def overlap(
    source: str | Path,
    task: str,
    split: Wanted,
    settings: Settings,
    against: Wanted | None = None,
    *,
    quiet: bool = False,
) -> tuple[str, Leakage]:
    """Compare a split with the case bank of the settings, or with another split.

    Args:
        source: see ``open_dataset``.
        task: whose known cases it is compared with.
        split: which examples.
        settings: where store, tasks and images are.
        against: a split of the same data set; None means the bank.
        quiet: show no progress.

    Returns:
        Name of the data set, and what was found.

    Raises:
        GscoError: of what kind, says what is wrong.
    """
    from .._support.progress import Progress
    from ..agent.assembly import parts_of
    from ..evals.datasets import open_dataset

    parts = parts_of(settings)
    card, images = parts["tasks"].get(task), parts["images"]

    def cases_of(split: Wanted) -> tuple[OpenDataset, list[EvalCase]]:
        opened = open_dataset(source, split=split, task=card)
        with Progress(f"reading {opened.name}", len(opened), quiet=quiet) as progress:
            return opened, read_examples(opened.examples, images, progress)

    if against:
        bank = bank_of(cases_of(against)[1], task, images)
    else:
        with closing(parts["store"]()) as store:
            bank = read_bank(store, task)
    opened, asked = cases_of(split)
    cases = [one.case for one in asked if isinstance(one.case, Case)]
    with Progress(f"comparing {opened.name}", len(cases), quiet=quiet) as progress:
        return opened.name, find_leaks(cases, bank, images, progress)


def write_overlaps(found: Mapping[str, Leakage], out: Path, command: str) -> None:
    """Write what was found, as a table and in full."""
    out.mkdir(parents=True, exist_ok=True)
    content = {name: one.model_dump(mode="json") for name, one in found.items()}
    write_atomically(out / JSON, json.dumps({"command": command, "sets": content}, indent=1) + "\n")
    write_atomically(out / MARKDOWN, "\n".join([*table(found), f"`{command}`", ""]))


def table(found: Mapping[str, Leakage]) -> Iterator[str]:
    """Lay the numbers out in Markdown."""
    yield "| data set | cases | known cases | same image | same group | look alike | without a picture |"
    yield "|---|---|---|---|---|---|---|"
    for name, one in found.items():
        numbers: Iterable[int] = (
            one.checked,
            one.bank,
            len(one.same_image),
            len(one.same_group),
            len(one.near_duplicates),
            one.unseen,
        )
        yield f"| {name} | {' | '.join(map(str, numbers))} |"
    yield ""
