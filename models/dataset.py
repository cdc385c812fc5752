"""Labelled images on disk, in any layout that people have them in: see ``read_dataset``."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import compress
from pathlib import Path

from ..case import Task, TaskKind
from ..disk import read_file
from ..errors import ConfigurationError
from .arrays import ARRAYS, only_arrays, unpack
from .data.annotations import annotation_files, read_annotations
from .data.files import IMAGE_SUFFIXES, ImageFinder
from .data.folders import read_folders
from .data.labels import check_spellings, spellings, spelt
from .data.rows import DatasetLayout, LabelledRow, split_named
from .data.tables import TABLE_SUFFIXES, Columns, find_columns, labelled_rows, read_text_table
from .splits import SPLITS, Shares, Split, draw_splits, uncrossed

__all__ = ["IMAGE_SUFFIXES", "Columns", "Dataset", "Item", "read_dataset"]

_log = logging.getLogger(__name__)
_TABLE = "labels.csv"
_METADATA = ("metadata.csv", "metadata.jsonl")
"""Of image folders as Hugging Face's datasets reads them."""
_SHOWN = 3
_MAX_IMAGE = 2**30
"""Bytes of an image's file."""


@dataclass(frozen=True)
class Item:
    """One labelled image."""

    path: Path
    labels: tuple[str, ...]
    group: str
    """Patient, lesion or near-duplicate group; it never crosses splits."""
    split: Split
    report: str | None = None
    content: str = ""
    """Sha256 of the file."""
    traits: tuple[tuple[str, str], ...] = ()
    """Column and value of what else a table tells of it, such as age and sex."""


@dataclass(frozen=True)
class Dataset:
    """Labelled images with fixed splits."""

    folder: Path
    items: tuple[Item, ...]
    labels: tuple[str, ...]
    """Every label, sorted."""
    sha256: str
    """Over relative path, labels, group, split, report and file hash of every item, sorted by path:
    the same content in the same split has the same hash, wherever the folder lies."""
    multilabel: bool = False
    dropped: int = 0
    """Images of the source left out because their group is also in a later split (train < val < test)."""
    layout: str = ""
    """How the source was understood, in words."""
    splits: str = ""
    """Where the splits are from: given, drawn, or partly both."""
    groups: str = ""
    """Where the groups are from."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Files that are not part of the set: reason and an example to their number."""
    notes: tuple[str, ...] = ()
    """What else a user must know."""
    drawn: bool = False
    """Whether the splits are drawn, all of them."""

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    def split(self, name: str) -> list[Item]:
        """Return the items of one split, in the data set's order."""
        return [item for item in self.items if item.split == name]

    def counts(self) -> dict[str, dict[str, int]]:
        """Count images per split and label; a multi-label image counts once for each of its labels."""
        return {
            split: dict(sorted(Counter(label for item in self.split(split) for label in item.labels).items()))
            for split in SPLITS
        }

    def table(self) -> str:
        """Say what was understood, as a table in plain text."""
        counts = self.counts()
        lines = [
            f"data set {self.name}: {self.layout}",
            f"  images   {len(self.items)}: "
            + ", ".join(f"{split} {len(self.split(split))}" for split in SPLITS),
            f"  splits   {self.splits}",
            f"  groups   {self.groups}",
            f"  labels   {'any number per image' if self.multilabel else 'one per image'}",
        ]
        width = max((len(label) for label in self.labels), default=0)
        for label in self.labels:
            numbers = "  ".join(f"{split} {counts[split].get(label, 0):>5}" for split in SPLITS)
            lines.append(f"    {label:<{width}}  {numbers}")
        lines += [f"  left out {count}: {reason}" for reason, count in self.left_out.items()]
        if self.dropped:
            lines.append(f"  left out {self.dropped}: their group is also in a later split")
        lines += [f"  note     {note}" for note in self.notes]
        return "\n".join(lines)

    def check_trainable(self) -> None:
        """Make sure that a classifier can be trained and calibrated.

        Raises:
            ConfigurationError: a label without training images, fewer than two labels, or no
                validation images.
        """
        if len(self.labels) < 2:
            raise ConfigurationError(
                f"data set {self.name!r} has {len(self.labels)} label(s); at least two are needed"
            )
        trained = self.counts()["train"]
        if without := [label for label in self.labels if label not in trained]:
            raise ConfigurationError(
                f"data set {self.name!r} has no training images of {without}; add some or drop the label"
            )
        if not self.split("val"):
            raise ConfigurationError(
                f"data set {self.name!r} has no validation images; mark some as 'val', or leave the "
                "splits out and let them be drawn"
            )


def read_dataset(
    source: Path,
    *,
    seed: int = 0,
    shares: Shares = (0.8, 0.1, 0.1),
    multilabel: bool | None = None,
    task: Task | None = None,
    columns: Columns | None = None,
    draw_validation: bool = False,
) -> Dataset:
    """Read a data set.

    Args:
        source: a folder of folders, one per class, in any order with folders for ``train``, ``val`` and
            ``test``; a table (``labels.csv``, Hugging Face's ``metadata.csv`` or ``.jsonl``, or any csv by
            name) with the columns path and label and perhaps group, split and report; a COCO or Label Studio
            export; a file of arrays (MedMNIST's ``.npz``, see ``unpack``); or a folder that holds
            one of them. ``docs/datasets.md`` describes the layouts.
        seed: draws the splits where there are none.
        shares: of the images that go to train, val and test, for drawn splits.
        multilabel: whether an image may have several labels; None: as the task says, or by the look of the
            labels (``A+B``, ``A|B``). An empty label is allowed in a multi-label table: none of them.
        task: whose options the labels must be; they are then spelt as its card spells them.
        columns: columns of a table that have other names.
        draw_validation: where train and test are given and val is not, draw it from train.

    Raises:
        ConfigurationError: the source, a column, a row, a label or a file is missing or wrong.

    A group that lies in several splits stays in the last of them (test, else val); its other images are
    left out, logged and counted in ``Dataset.dropped``. Images without a group are grouped by the patient
    number of their DICOM header, hashed, else by file content.

    Example:
        >>> dataset = read_dataset(Path("skin"))  # doctest: +SKIP
        >>> print(dataset.table())  # doctest: +SKIP
    """
    source = _unpacked(Path(source))
    closed = task if task is not None and task.kind.closed else None
    if multilabel is None and closed is not None:
        multilabel = closed.kind is TaskKind.MULTILABEL
    layout = _layout(source, multilabel, closed, columns or Columns())
    _check_names(layout.rows)
    folder, rows = _located(source if source.is_dir() else source.parent, layout)
    rows = _spelt(rows, closed, layout)
    hashes, patients = _contents(folder, rows)
    groups, grouped = _grouped(rows, hashes, patients)
    splits, told = _splits(rows, groups, seed, shares, draw_validation)
    kept = uncrossed(groups, splits)
    items = tuple(
        Item(folder / row.path, row.labels, group, split, row.report, digest, row.traits)
        for row, group, split, digest in compress(zip(rows, groups, splits, hashes, strict=True), kept)
    )
    _note_twins(rows, hashes, layout)
    if dropped := len(kept) - len(items):
        _log.warning("%s: %d images left out, their group is also in a later split", source.name, dropped)
    return Dataset(
        folder,
        items,
        tuple(sorted({label for row in rows for label in row.labels})),
        _dataset_hash(folder, items),
        layout.multilabel,
        dropped,
        layout.kind,
        told,
        grouped,
        {f"{reason}, for example {paths[0]}": len(paths) for reason, paths in layout.left_out.items()},
        tuple(layout.notes),
        drawn=all(row.split is None for row in rows),
    )


def regrouped(
    dataset: Dataset,
    keep: Sequence[bool],
    groups: Sequence[str],
    *,
    seed: int = 0,
    shares: Shares = (0.8, 0.1, 0.1),
) -> Dataset:
    """Return a data set of some of its items in other groups.

    Splits that were drawn are drawn anew; from given splits the images are left out whose group is also in a
    later split.

    Args:
        dataset: as read.
        keep: which of its items stay.
        groups: the group of each of its items.
        seed: draws the splits.
        shares: of the images that go to train, val and test.
    """
    items = [replace(item, group=group) for item, group in zip(dataset.items, groups, strict=True)]
    items = list(compress(items, keep))
    names = [item.group for item in items]
    if dataset.drawn and names != [item.group for item in dataset.items]:
        splits = draw_splits(names, [item.labels for item in items], seed=seed, shares=shares)
        items = [replace(item, split=split) for item, split in zip(items, splits, strict=True)]
    stay = uncrossed(names, [item.split for item in items])
    items = tuple(compress(items, stay))
    return replace(
        dataset,
        items=items,
        labels=tuple(sorted({label for item in items for label in item.labels})),
        sha256=_dataset_hash(dataset.folder, items),
        dropped=dataset.dropped + len(stay) - len(items),
    )


def _check_names(rows: Iterable[LabelledRow]) -> None:
    """Refuse names that cannot be written down: of files in an old encoding, or half a character in JSON."""
    for row in rows:
        for text in (row.path, *row.labels, row.group or "", row.report or ""):
            try:
                text.encode()
            except UnicodeEncodeError:
                shown = text[:80].encode("ascii", "backslashreplace").decode()
                raise ConfigurationError(f"the name '{shown}' is not UTF-8; rename or correct it") from None


def _unpacked(source: Path) -> Path:
    """Return the folder of a file of arrays, or the source itself where it is something else."""
    arrays = source if source.suffix == ARRAYS else only_arrays(source) if source.is_dir() else None
    return source if arrays is None else unpack(arrays)


def _layout(source: Path, multilabel: bool | None, task: Task | None, columns: Columns) -> DatasetLayout:
    spelling = spellings(task) if task is not None else None
    accepted = frozenset(spelling or ())
    if source.is_file():
        if source.suffix.lower() == ".json":
            return read_annotations(source, multilabel)
        return labelled_rows(read_text_table(source), columns, multilabel, accepted)
    if not source.is_dir():
        raise ConfigurationError(f"no data set at {source}: no such file or folder")
    if (source / _TABLE).is_file():
        return labelled_rows(read_text_table(source / _TABLE), columns, multilabel, accepted)
    if metadata := _hugging_face(source, columns, multilabel, accepted):
        return metadata
    try:
        layout = read_folders(source, spelling)
    except ConfigurationError as error:
        if other := _other_layout(source, columns, multilabel, accepted):
            return other
        raise error
    layout.multilabel = bool(multilabel)
    if len({label for row in layout.rows for label in row.labels}) < 2:
        layout = _other_layout(source, columns, multilabel, accepted) or layout
    for path in _tables(source):
        layout.notes.append(f"{path.name} is not used; name the file itself to read it")
    return layout


def _hugging_face(
    folder: Path, columns: Columns, multilabel: bool | None, accepted: frozenset[str]
) -> DatasetLayout | None:
    """Metadata at the top or in each split's folder, where it says a label."""
    places = [
        folder,
        *(path for path in sorted(folder.iterdir()) if path.is_dir() and split_named(path.name)),
    ]
    found = [(place, place / name) for place in places for name in _METADATA if (place / name).is_file()]
    whole = DatasetLayout([], "Hugging Face image folder")
    for place, path in found:
        table = read_text_table(path)
        try:
            find_columns(table, columns)
        except ConfigurationError:
            return None
        part = labelled_rows(table, columns, multilabel, accepted)
        split = split_named(place.name) if place != folder else None
        inside = "" if place == folder else f"{place.name}/"
        whole.rows += [
            replace(
                row,
                path=inside + row.path.replace("\\", "/"),
                split=row.split or split or _split_in(row.path),
            )
            for row in part.rows
        ]
        whole.multilabel = whole.multilabel or part.multilabel
        whole.notes += part.notes
    return whole if found else None


def _split_in(path: str) -> Split | None:
    first, _, rest = path.replace("\\", "/").partition("/")
    return split_named(first) if rest else None


def _other_layout(
    folder: Path, columns: Columns, multilabel: bool | None, accepted: frozenset[str]
) -> DatasetLayout | None:
    """The one table of a folder, or its annotation files."""
    if len(tables := _tables(folder)) == 1:
        return labelled_rows(read_text_table(tables[0]), columns, multilabel, accepted)
    parts = [read_annotations(path, multilabel) for path in annotation_files(folder)]
    if not parts:
        return None
    rows = [row for part in parts for row in part.rows]
    left_out = {reason: paths for part in parts for reason, paths in part.left_out.items()}
    several = any(part.multilabel for part in parts)
    return DatasetLayout(rows, ", ".join(part.kind for part in parts), several, left_out=left_out)


def _tables(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in TABLE_SUFFIXES]


def _located(folder: Path, layout: DatasetLayout) -> tuple[Path, list[LabelledRow]]:
    """Find the files that the rows name; the folder grows where some lie outside of it."""
    finder, missing, rows = ImageFinder(folder), [], []
    for row in layout.rows:
        try:
            place = finder.find(row.path)
        except ValueError as error:
            raise ConfigurationError(
                f"several files are called {row.path!r}: {error}; give the folder too"
            ) from None
        if place is None:
            missing.append(row.path)
        else:
            rows.append(replace(row, path=place))
    if missing:
        raise ConfigurationError(
            f"{len(missing)} image file(s) are missing or unreadable, for example {missing[:_SHOWN]}"
        )
    if finder.by_search:
        layout.notes.append(
            f"{finder.by_search} images were found by their names in other folders than given"
        )
    base = _normal(folder)
    whole = [_normal(folder / row.path) for row in rows]
    outside = not all(path.is_relative_to(base) for path in whole)
    top = Path(os.path.commonpath([base, *(path.parent for path in whole)])) if outside else base
    rows = [
        replace(row, path=path.relative_to(top).as_posix()) for row, path in zip(rows, whole, strict=True)
    ]
    return top if outside else folder, rows


def _normal(path: Path) -> Path:
    """An absolute path without ``..``; links stay as they are."""
    return Path(os.path.normpath(path.absolute()))


def _spelt(rows: list[LabelledRow], task: Task | None, layout: DatasetLayout) -> list[LabelledRow]:
    """Labels as the task's card spells them, or at least not twice in two spellings."""
    if task is None:
        layout.notes += check_spellings(label for row in rows for label in row.labels)
        return rows
    labels = spelt([row.labels for row in rows], task)
    if unused := sorted(set(task.options) - {label for several in labels for label in several}):
        layout.notes.append(f"no image has the label {', '.join(unused)} of task {task.name}")
    return [replace(row, labels=several) for row, several in zip(rows, labels, strict=True)]


def _contents(folder: Path, rows: Iterable[LabelledRow]) -> tuple[list[str], list[str | None]]:
    """Hash of each file, and the patient number of DICOM files."""
    hashes, patients, missing = [], [], []
    for row in rows:
        try:
            data = read_file(folder / row.path, _MAX_IMAGE)
        except OSError:
            missing.append(row.path)
            continue
        hashes.append(hashlib.sha256(data).hexdigest())
        patients.append(_patient(data) if row.group is None and data[128:132] == b"DICM" else None)
    if missing:
        raise ConfigurationError(
            f"{len(missing)} image file(s) are missing, unreadable or too large, for example "
            f"{missing[:_SHOWN]}"
        )
    return hashes, patients


def _patient(data: bytes) -> str | None:
    import warnings

    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=["PatientID"])
            return str(header.get("PatientID") or "").strip() or None
        except Exception:  # what is damaged is said when the image is read
            return None


def _grouped(
    rows: Sequence[LabelledRow], hashes: Sequence[str], patients: Sequence[str | None]
) -> tuple[list[str], str]:
    """A group for each image. Patient numbers are hashed with a salt that only the whole set yields."""
    salt = hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()
    found, kinds = [], Counter()
    for row, digest, patient in zip(rows, hashes, patients, strict=True):
        if row.group is not None:
            found.append(row.group)
            kinds["given"] += 1
        elif patient is not None:
            found.append(f"patient-{hashlib.sha256(f'{salt}/{patient}'.encode()).hexdigest()[:16]}")
            kinds["by the patient number in the DICOM header, hashed"] += 1
        else:
            found.append(f"file-{digest[:16]}")
            kinds["none given; equal files stay together"] += 1
    told = ", ".join(f"{kind} ({count})" if len(kinds) > 1 else kind for kind, count in kinds.items())
    return found, f"{len(set(found))}, {told}"


def _splits(
    rows: Sequence[LabelledRow], groups: Sequence[str], seed: int, shares: Shares, draw_validation: bool
) -> tuple[list[Split], str]:
    given: list[Split] = [row.split for row in rows if row.split is not None]
    labels = [row.labels for row in rows]
    if not given:
        return draw_splits(groups, labels, seed=seed, shares=shares), f"drawn by group with seed {seed}"
    if len(given) < len(rows):
        raise ConfigurationError(
            f"{len(rows) - len(given)} of {len(rows)} images have no split; give one to each or to none"
        )
    if not draw_validation or "val" in given or "train" not in given:
        return given, "given"
    later = {group for group, split in zip(groups, given, strict=True) if split != "train"}
    free = [n for n, split in enumerate(given) if split == "train" and groups[n] not in later]
    part = shares[1] / (shares[0] + shares[1])
    drawn = draw_splits(
        [groups[n] for n in free], [labels[n] for n in free], seed=seed, shares=(1 - part, part, 0.0)
    )
    for n, split in zip(free, drawn, strict=True):
        given[n] = split
    return given, f"train and test given; val drawn from train by group with seed {seed}"


def _note_twins(rows: Sequence[LabelledRow], hashes: Sequence[str], layout: DatasetLayout) -> None:
    """Note files of the same content, above all under different labels."""
    same: dict[str, list[LabelledRow]] = defaultdict(list)
    for row, digest in zip(rows, hashes, strict=True):
        same[digest].append(row)
    twins = [several for several in same.values() if len(several) > 1]
    torn = [several for several in twins if len({row.labels for row in several}) > 1]
    if torn:
        one, other = torn[0][0], next(row for row in torn[0] if row.labels != torn[0][0].labels)
        layout.notes.append(
            f"{len(torn)} images occur under different labels, for example {one.path} "
            f"({'+'.join(one.labels)}) and {other.path} ({'+'.join(other.labels)})"
        )
    if len(twins) > len(torn):
        layout.notes.append(f"{len(twins) - len(torn)} images occur more than once, under the same label")


def _dataset_hash(folder: Path, items: Iterable[Item]) -> str:
    lines = sorted(
        json.dumps(
            [
                item.path.relative_to(folder).as_posix(),
                item.labels,
                item.group,
                item.split,
                item.report,
                item.content,
            ]
        )
        for item in items
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
