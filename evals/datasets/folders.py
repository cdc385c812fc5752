"""Examples from labelled folders, files of arrays and DICOM folders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ...case import Task, TaskKind
from ...errors import ConfigurationError
from ...models.data.rows import SPLIT_NAMES
from ...models.dataset import Dataset, read_dataset
from ...models.splits import Split
from .entry import Arrays, Dicom, Labelled
from .example import Example
from .rows import read_rows
from .tables import Read

_IDENTIFIERS = ("path", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID")


def read_labelled(folder: Path, layout: Labelled, task: Task | None, seed: int) -> Read:
    """Read labelled images in any layout that ``read_dataset`` knows.

    Raises:
        ConfigurationError: see ``read_dataset``.
    """
    several = None if task is None else task.kind is TaskKind.MULTILABEL
    source = folder / layout.folder if layout.folder != "." else folder
    # Names that are mapped to the task's options are not yet those.
    card = task if task is not None and task.kind.closed and not layout.values else None
    found = from_labelled(read_dataset(source, seed=seed, multilabel=several, task=card), layout.values)
    if layout.split:
        return replace(
            found, examples=[replace(one, split=SPLIT_NAMES[layout.split]) for one in found.examples]
        )
    return found


def read_arrays(folder: Path, layout: Arrays, task: Task | None, seed: int) -> Read:
    """Read a file of arrays.

    Raises:
        ConfigurationError: there is none, or see ``unpack``.
    """
    file = Path(layout.file)
    sizes = [folder / f"{file.stem}_{size}{file.suffix}" for size in (224, 128, 64)]
    source = next((path for path in (folder / file, *sizes) if path.is_file()), None)
    if source is None:
        raise ConfigurationError(f"{folder} has no {layout.file}")
    several = task is not None and task.kind is TaskKind.MULTILABEL
    found = from_labelled(read_dataset(source, seed=seed, multilabel=several or None), {})
    return replace(found, notes=[*found.notes, f"arrays of {source.name}"])


def from_labelled(dataset: Dataset, values: Mapping[str, str]) -> Read:
    """Turn a data set of labelled images into examples; ``values`` maps its labels to options."""
    reports = any(item.report for item in dataset.items)
    examples = [
        Example(
            id=item.path.relative_to(dataset.folder).as_posix(),
            images=(item.path,),
            labels=tuple(values.get(label, label) for label in item.labels),
            report=item.report if reports else None,
            group=item.group,
            split=item.split,
        )
        for item in dataset.items
    ]
    notes = [f"{count} files left out: {reason}" for reason, count in dataset.left_out.items()]
    if dataset.dropped:
        notes.append(f"{dataset.dropped} images left out: their group is also in a later split")
    return Read(examples, [*notes, *dataset.notes], dataset.dropped, sha256=dataset.sha256)


def read_dicom(folder: Path, layout: Dicom) -> Read:
    """Read DICOM files, labelled by a table; patients are named by a hash of their number.

    Raises:
        ConfigurationError: the table or a file is missing or wrong, or a file has no label.
    """
    import warnings

    rows = {}
    table = read_rows(folder / layout.table)
    column = next((name for name in _IDENTIFIERS if table and name in table[0]), None)
    if column is None or "label" not in table[0]:
        raise ConfigurationError(
            f"{layout.table} needs the column label and one of {', '.join(_IDENTIFIERS)}"
        )
    for row in table:
        rows[str(row[column]).strip()] = row
    found: list[Example] = []
    unknown = []
    with warnings.catch_warnings():
        # Odd values in headers are the rule; only the identifiers are read here.
        warnings.simplefilter("ignore")
        for path in _dicom_files(folder / layout.folder):
            tags = _identifiers(path, folder)
            row = rows.get(tags[column])
            if row is None:
                unknown.append(tags["path"])
                continue
            found.append(_dicom_example(path, row, tags))
    if not found:
        raise ConfigurationError(f"{layout.table} labels none of the DICOM files in {folder}")
    notes = [f"{len(unknown)} DICOM files have no row in {layout.table}"] if unknown else []
    return Read(found, notes)


def _dicom_example(path: Path, row: Mapping[str, object], tags: Mapping[str, str]) -> Example:
    name = tags["path"]
    split: Split | Literal[""] = ""
    if given := str(row.get("split") or "").strip().lower():
        if given not in SPLIT_NAMES:
            raise ConfigurationError(f"{name} has the split {given!r}; it must be train, val or test")
        split = SPLIT_NAMES[given]
    labels = tuple(part.strip() for part in str(row["label"]).split("+") if part.strip())
    patient = tags["PatientID"] or tags["StudyInstanceUID"] or tags["path"]
    return Example(name, (path,), labels, group=f"patient-{_short(patient)}", split=split)


def _dicom_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "DICOMDIR" and not path.name.startswith("."):
            with path.open("rb") as file:
                if file.read(132)[128:] == b"DICM":
                    yield path


def _identifiers(path: Path, folder: Path) -> dict[str, str]:
    from pydicom import dcmread

    names = [name for name in _IDENTIFIERS if name != "path"]
    header = dcmread(path, stop_before_pixels=True, specific_tags=list(names))
    return {
        "path": path.relative_to(folder).as_posix(),
        **{name: str(header.get(name, "")) for name in names},
    }


def _short(identifier: str) -> str:
    """Name a patient or study without giving its number away."""
    return hashlib.sha256(identifier.encode()).hexdigest()[:12]
