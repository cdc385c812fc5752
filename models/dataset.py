"""Labelled images on disk: a folder per class, a ``labels.csv``, or a file of arrays."""

from __future__ import annotations

import csv
import difflib
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

from ..errors import ConfigurationError
from .arrays import ARRAYS, only_arrays, unpack
from .splits import SPLITS, Shares, Split, draw_splits, uncrossed

_log = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".bmp", ".dcm", ".dicom", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

_SPELLINGS: dict[str, Split] = {
    "train": "train",
    "val": "val",
    "test": "test",
    "training": "train",
    "valid": "val",
    "validation": "val",
    "testing": "test",
}


@dataclass(frozen=True)
class Item:
    """One labelled image."""

    path: Path
    labels: tuple[str, ...]
    group: str
    """Patient, lesion or near-duplicate group; it never crosses splits."""
    split: Split
    report: str | None = None


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
                f"data set {self.name!r} has no validation images; mark some rows as 'val', or leave the "
                "column 'split' out and let the splits be drawn"
            )


@dataclass(frozen=True)
class _Row:
    path: str
    labels: tuple[str, ...]
    group: str | None = None
    split: Split | None = None
    report: str | None = None


def read_dataset(
    source: Path, *, seed: int = 0, shares: Shares = (0.8, 0.1, 0.1), multilabel: bool | None = None
) -> Dataset:
    """Read a data set.

    Args:
        source: a folder with one sub-folder of images per class (optionally inside ``train``, ``val``
            and ``test``), a folder that holds a ``labels.csv``, or a csv file. The csv needs the columns
            ``path`` (relative to the csv) and ``label``, and may have ``group``, ``split`` and
            ``report``; other columns are ignored. Images without a group are grouped by file content.
            Or a file of arrays (MedMNIST's ``.npz``), or a folder that holds nothing else; see ``unpack``.
        seed: draws the splits where there are none.
        shares: of the images that go to train, val and test, for drawn splits.
        multilabel: whether a label ``A+B`` means both A and B; None: where any label of the csv has a
            plus. An empty label is allowed in a multi-label csv and means none of the labels.

    Raises:
        ConfigurationError: the source, a column, a row or a file is missing or wrong.

    A group that a csv puts into several splits stays in the last of them (test, else val); its other
    images are left out, logged and counted in ``Dataset.dropped``.
    """
    source = _unpacked(Path(source))
    if source.is_file():
        folder, rows, several = source.parent, *_read_csv(source, multilabel)
    elif (source / "labels.csv").is_file():
        folder, rows, several = source, *_read_csv(source / "labels.csv", multilabel)
    elif source.is_dir():
        folder, rows, several = source, _read_folders(source), False
    else:
        raise ConfigurationError(f"no data set at {source}: no such file or folder")
    hashes = _file_hashes(folder, rows)
    groups = [
        row.group if row.group is not None else f"file-{digest[:16]}"
        for row, digest in zip(rows, hashes, strict=True)
    ]
    splits = _given_splits(rows, groups) or draw_splits(
        groups, [row.labels for row in rows], seed=seed, shares=shares
    )
    kept = uncrossed(groups, splits)
    items = tuple(
        Item(folder / row.path, row.labels, group, split, row.report)
        for row, group, split in compress(zip(rows, groups, splits, strict=True), kept)
    )
    hashes = list(compress(hashes, kept))
    if dropped := len(kept) - len(items):
        _log.warning("%s: %d images left out, their group is also in a later split", source.name, dropped)
    labels = tuple(sorted({label for row in rows for label in row.labels}))
    return Dataset(folder, items, labels, _dataset_hash(folder, items, hashes), several, dropped)


def _unpacked(source: Path) -> Path:
    """Return the folder of a file of arrays, or the source itself where it is something else."""
    arrays = source if source.suffix == ARRAYS else only_arrays(source) if source.is_dir() else None
    return source if arrays is None else unpack(arrays)


def _read_csv(path: Path, multilabel: bool | None) -> tuple[list[_Row], bool]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            table = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"cannot read {path.name} as UTF-8 csv: {error}") from error
    for column in ("path", "label"):
        if column not in columns:
            near = difflib.get_close_matches(column, columns, 1, 0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError(f"{path.name} has no column {column!r}, only {columns}{hint}")
    if not table:
        raise ConfigurationError(f"{path.name} has no rows")
    several = any("+" in (row["label"] or "") for row in table) if multilabel is None else multilabel
    return [_read_row(row, number, several) for number, row in enumerate(table, start=2)], several


def _read_row(row: Mapping[str, str | None], line: int, multilabel: bool) -> _Row:
    value = {
        key: (text or "").strip()
        for key, text in row.items()
        if key is not None and not isinstance(text, list)
    }
    labels = (
        tuple(filter(None, (part.strip() for part in value["label"].split("+"))))
        if multilabel
        else (value["label"],)
    )
    if not value["path"] or "" in labels:
        raise ConfigurationError(f"line {line} of the csv lacks its {'label' if value['path'] else 'path'}")
    split = value.get("split", "").lower()
    if split and split not in _SPELLINGS:
        raise ConfigurationError(f"line {line} of the csv names the split {split!r}; use train, val or test")
    return _Row(
        path=value["path"],
        labels=tuple(dict.fromkeys(labels)),
        group=value.get("group") or None,
        split=_SPELLINGS[split] if split else None,
        report=value.get("report") or None,
    )


def _read_folders(folder: Path) -> list[_Row]:
    tops = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    classes: list[tuple[Path, Split | None]] = [(top, None) for top in tops]
    if tops and all(top.name.lower() in _SPELLINGS for top in tops):
        classes = [
            (entry, _SPELLINGS[top.name.lower()])
            for top in tops
            for entry in sorted(top.iterdir())
            if entry.is_dir()
        ]
    rows = [
        _Row(path=file.relative_to(folder).as_posix(), labels=(entry.name,), split=split)
        for entry, split in classes
        for file in sorted(entry.rglob("*"))
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    ]
    if not rows:
        raise ConfigurationError(
            f"{folder} holds neither a labels.csv nor sub-folders with images, one per class"
        )
    return rows


def _given_splits(rows: Sequence[_Row], groups: Sequence[str]) -> list[Split] | None:
    given: list[Split] = [row.split for row in rows if row.split is not None]
    if not given:
        return None
    if len(given) < len(rows):
        raise ConfigurationError(
            f"{len(rows) - len(given)} of {len(rows)} images have no split; give one to each or to none"
        )
    return given


def _file_hashes(folder: Path, rows: Iterable[_Row]) -> list[str]:
    hashes, missing = [], []
    for row in rows:
        path = folder / row.path
        try:
            # A device or a pipe may never end.
            readable = path.is_relative_to(folder) and path.is_file()
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if readable else None
        except OSError:
            digest = None
        if digest is None:
            missing.append(row.path)
        else:
            hashes.append(digest)
    if missing:
        raise ConfigurationError(
            f"{len(missing)} image file(s) are missing or unreadable, for example {missing[:3]}; give each as"
            " a path in the folder of the data set"
        )
    return hashes


def _dataset_hash(folder: Path, items: Iterable[Item], hashes: Iterable[str]) -> str:
    lines = sorted(
        json.dumps(
            [
                item.path.relative_to(folder).as_posix(),
                item.labels,
                item.group,
                item.split,
                item.report,
                digest,
            ]
        )
        for item, digest in zip(items, hashes, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
