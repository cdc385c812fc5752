"""From a name or a path to examples: which layout it is, whether all of it is there, and its splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

from ...case import Task, TaskKind
from ...errors import ConfigurationError
from ...models.arrays import ARRAYS
from ...models.data.labels import spelt
from ...models.splits import SPLITS, draw_splits, uncrossed
from .entry import Arrays, Conversations, DatasetEntry, Dicom, Edition, Labelled, Layout, OpenI, TableLayout
from .example import Example, OpenDataset, Wanted
from .folders import read_arrays, read_dicom, read_labelled
from .layout_detection import recognise
from .registry import edition_in, entries, entry, how_to_get
from .tables import Read, read_table
from .texts import read_conversation_files, read_openi

if TYPE_CHECKING:
    from ...models.splits import Split

SHARES = (0.7, 0.1, 0.2)
"""Of the groups, for sets that are published without splits."""


def open_dataset(
    name_or_path: str | Path,
    *,
    split: Wanted = "test",
    task: Task | str | None = None,
    root: Path | None = None,
    layout: Layout | None = None,
    partial: bool = False,
    seed: int = 0,
) -> OpenDataset:
    """Open a data set.

    Args:
        name_or_path: a name of the registry, or a folder or file.
        split: which examples; ``all`` for every one.
        task: card or name of the task that is asked; None means the one of the registry. A folder that the
            registry does not know needs one, unless it holds questions or reports.
        root: folder in which the sets of the registry lie; None means ``GSCO_DATASETS``.
        layout: how the folder is laid out; None means that it is recognised.
        partial: go on with a set of which a part is missing; the notes then say so.
        seed: draws the splits of sets that have none; no group crosses them.

    Raises:
        ConfigurationError: there is no such set or path, its layout is not recognised, files or examples
            are missing, a label is not one of the task's options, or the split is empty.
        TaskUnknown: no task bears the name.
    """
    found, folder = _place(name_or_path, root)
    card = _card(task, found)
    edition = _edition(folder, found, layout)
    read = _read(folder, edition.layout, card, seed)
    _check_counts(read, edition, found, partial)
    card = card or _guessed(read.examples, folder)
    examples, notes = _placed(read, edition, seed)
    if card.kind.closed:
        truths = spelt([one.labels for one in examples], card)
        examples = [replace(one, labels=truth) for one, truth in zip(examples, truths, strict=True)]
    _check_names(examples, folder)
    chosen = tuple(one for one in examples if split in ("all", one.split))
    if not chosen:
        raise ConfigurationError(f"data set {folder.name!r} has no {split} examples")
    counts = Counter(one.split for one in examples)
    return OpenDataset(
        name=found.name if found else folder.stem,
        folder=folder,
        task=card,
        split=split,
        examples=chosen,
        counts={name: counts[name] for name in SPLITS if counts[name]},
        entry=found,
        edition=edition.name,
        notes=tuple([*read.notes, *notes, *_short_of(read, edition)]),
        labelled_sha256=read.sha256,
    )


def _place(name_or_path: str | Path, root: Path | None) -> tuple[DatasetEntry | None, Path]:
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and name_or_path in entries():
        return entry(name_or_path), _folder_of(entry(name_or_path), root)
    if path.exists():
        return None, path
    return entry(str(name_or_path)), path


def _folder_of(found: DatasetEntry, root: Path | None) -> Path:
    if root is None:
        from ...settings import Settings

        root = Settings().datasets
    if root is None:
        raise ConfigurationError(
            f"data set {found.name} was not found: set GSCO_DATASETS to the folder of the data sets, or "
            "give its path. " + how_to_get(found)
        )
    names = (found.name, *found.folders)
    folder = next((path for name in names if (path := root / name).is_dir()), None)
    if folder is None:
        raise ConfigurationError(f"{root} has no folder {' or '.join(names)}. {how_to_get(found)}")
    return folder


def _card(task: Task | str | None, found: DatasetEntry | None) -> Task | None:
    if isinstance(task, Task):
        return task
    if task is not None:
        from ...agent.builds import task_book
        from ...settings import Settings

        return task_book(Settings()).get(task)
    return found.card() if found else None


def _edition(folder: Path, found: DatasetEntry | None, layout: Layout | None) -> Edition:
    if layout is not None:
        return Edition(name="given", needs=(), layout=layout, checked="given by the caller")
    if found is not None:
        return edition_in(folder, found)
    return Edition(name="recognised", needs=(), layout=recognise(folder), checked="recognised by its files")


def _read(folder: Path, layout: Layout, task: Task | None, seed: int) -> Read:
    match layout:
        case Labelled():
            return read_labelled(folder, layout, task, seed)
        case Arrays():
            return read_arrays(folder.parent if folder.suffix == ARRAYS else folder, layout, task, seed)
        case TableLayout():
            return read_table(folder if folder.is_dir() else folder.parent, layout)
        case Conversations():
            return read_conversation_files(folder if folder.is_dir() else folder.parent, layout, task)
        case OpenI():
            return read_openi(folder, layout)
        case Dicom():
            return read_dicom(folder, layout)


def _guessed(examples: Sequence[Example], folder: Path) -> Task:
    """Make the task of a folder that the registry does not know: only open ones need no card."""
    name = "".join(letter if letter.isalnum() else "-" for letter in folder.stem.lower()).strip("-") or "set"
    if all(one.answers for one in examples):
        return Task(name=name, kind=TaskKind.QUESTION, modality="medical image")
    if all(one.report for one in examples) and not any(one.labels for one in examples):
        return Task(name=name, kind=TaskKind.REPORT, modality="medical image")
    found = sorted({label for one in examples for label in one.labels})
    raise ConfigurationError(
        f"name the task that {folder.stem} is for: its labels are {', '.join(found[:8])}"
        f"{' …' if len(found) > 8 else ''}"
    )


def _placed(read: Read, edition: Edition, seed: int) -> tuple[list[Example], list[str]]:
    """Draw splits where there are none, and let no group cross them."""
    examples, notes = read.examples, []
    if any(one.split for one in examples) and not all(one.split for one in examples):
        raise ConfigurationError("some examples name a split and some do not; give one to each or to none")
    if not examples:
        raise ConfigurationError("the data set is empty")
    if not examples[0].split:
        groups, labels = [one.group for one in examples], [one.labels for one in examples]
        drawn = draw_splits(groups, labels, seed=seed, shares=SHARES)
        examples = [replace(one, split=split) for one, split in zip(examples, drawn, strict=True)]
        notes.append(f"published without splits; drawn by group with seed {seed}")
    given: list[Split] = [one.split for one in examples if one.split]
    kept = uncrossed([one.group for one in examples], given)
    if crossing := len(kept) - sum(kept):
        examples = list(compress(examples, kept))
        notes.append(f"{crossing} examples left out: their group is also in a later split")
    return examples, notes


def _check_counts(read: Read, edition: Edition, found: DatasetEntry | None, partial: bool) -> None:
    lacking = _short_of(read, edition)
    if lacking and not partial:
        source = f" {how_to_get(found)}" if found else ""
        raise ConfigurationError(
            f"the data set is incomplete: {'; '.join(lacking)}.{source} "
            "To go on with what is there, open it as partial"
        )


def _short_of(read: Read, edition: Edition) -> list[str]:
    """Say where there are not as many examples as published."""
    if not edition.counts:
        return []
    counts: Mapping[str, int] = Counter(one.split for one in read.examples)
    if "all" in edition.counts:
        counts = {"all": len(read.examples)}
    left = read.dropped
    lacking = []
    for split, wanted in edition.counts.items():
        there = counts.get(split, 0)
        # What was left out for crossing splits was there.
        excused = min(left, max(wanted - there, 0))
        left -= excused
        if there + excused != wanted:
            lacking.append(
                f"{there + excused} of {wanted} examples" + (f" of {split}" if split != "all" else "")
            )
    return lacking


def _check_names(examples: Sequence[Example], folder: Path) -> None:
    names = Counter(one.id for one in examples)
    name, times = names.most_common(1)[0]
    if times > 1:
        raise ConfigurationError(
            f"data set {folder.name!r} lists {name!r} {times} times; each may be there once"
        )
