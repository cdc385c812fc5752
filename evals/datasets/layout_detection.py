"""Which layout a folder has that the registry does not know."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigurationError
from ...models.arrays import ARRAYS, only_arrays
from ...models.data.annotations import annotation_files, is_export
from ...models.data.tables import read_text_table
from ...models.dataset import IMAGE_SUFFIXES
from .entry import Arrays, Conversations, Dicom, Labelled, Layout, OpenI, TableLayout
from .rows import SUFFIXES, Row, read_rows

_IMAGE = ("image", "image_path", "path", "image_name", "img_name", "filename", "file_name", "Figure_path")
_LABEL = ("label", "labels", "diagnosis", "dx", "class")
_ANSWER = ("answer", "Answer", "answers")
_REPORT = ("report", "text", "findings")
_GROUP = ("group", "patient_id", "subject_id", "patient", "study_id", "lesion_id")
_ID = ("question_id", "qid", "id")


def recognise(place: Path) -> Layout:
    """Tell the layout of a folder or file.

    Raises:
        ConfigurationError: it is none that is known.
    """
    if place.is_file():
        return _file(place)
    if arrays := only_arrays(place):
        return Arrays(file=arrays.name)
    if (place / "ecgen-radiology").is_dir() or (place / "NLMCXR_reports").is_dir():
        return OpenI()
    table = place / "labels.csv"
    if (
        table.is_file()
        and "path" not in (header := _header(table))
        and any(name.endswith(("UID", "ID")) for name in header)
    ):
        return Dicom()
    if table.is_file() or _has_metadata(place) or _has_classes(place):
        return Labelled()
    tables = [path for path in sorted(place.iterdir()) if path.suffix.lower() in SUFFIXES - {".txt", ".pkl"}]
    if len(tables) == 1:
        return _file(tables[0])
    if annotation_files(place):
        return Labelled()
    found = ", ".join(path.name for path in tables) or "no table and no folders of images"
    raise ConfigurationError(
        f"the layout of {place} is not recognised ({found}); name a file of it, or give its layout"
    )


def _file(path: Path) -> Layout:
    suffix = path.suffix.lower()
    if suffix == ARRAYS:
        return Arrays(file=path.name)
    if suffix not in SUFFIXES:
        raise ConfigurationError(f"{path.name} is none of {', '.join(sorted({*SUFFIXES, ARRAYS}))}")
    if suffix == ".json" and is_export(path):
        return Labelled()
    rows = read_rows(path)
    if not rows:
        raise ConfigurationError(f"{path.name} has no rows")
    if "conversations" in rows[0]:
        return Conversations(files=(path.name,))
    if suffix in (".csv", ".tsv") and _labels_images(rows[0]):
        return Labelled()
    return _table(path.name, rows[0])


def _labels_images(row: Row) -> bool:
    """Whether a table is one of labelled images and nothing more, which the reader of data sets takes."""
    more = (*_ANSWER, *_ID, "rad", "moed")
    return not set(more) & row.keys() and _first(_IMAGE, row) is not None and _first(_LABEL, row) is not None


def _table(name: str, row: Row) -> TableLayout:
    image = _first(_IMAGE, row)
    if image is None:
        raise ConfigurationError(
            f"{name} has no column with images ({', '.join(_IMAGE)}), only {', '.join(row)}"
        )
    group, numbered = _first(_GROUP, row), _first(_ID, row)
    answer = _first(_ANSWER, row) if "question" in row or "Question" in row else None
    label = None if answer else _first(_LABEL, row)
    report = None if answer or label else _first(_REPORT, row)
    if not (answer or label or report):
        raise ConfigurationError(
            f"{name} says nothing that is true of an image: neither label, answer nor report"
        )
    return TableLayout(
        files={"all": (name,)},
        image="{" + image + "}",
        folders=(".", "images"),
        id="{" + numbered + "}" if numbered else "",
        group="{" + group + "}" if group else "",
        split="split" if "split" in row else "",
        label=label or "",
        question=("question" if "question" in row else "Question") if answer else "",
        answer=answer or "",
        report=(report,) if report else (),
        # The reference's meta files carry what was retrieved and what its specialists said.
        extras={kept: kept for kept in ("rad", "moed", "answer_type", "modality", "view") if kept in row},
    )


def _first(names: tuple[str, ...], row: Row) -> str | None:
    return next((name for name in names if name in row), None)


def _header(path: Path) -> tuple[str, ...]:
    return read_text_table(path).columns


def _has_metadata(folder: Path) -> bool:
    return any(
        any(folder.glob(pattern)) for pattern in ("metadata.csv", "metadata.jsonl", "*/metadata.jsonl")
    )


def _has_classes(folder: Path) -> bool:
    return any(
        path.suffix.lower() in IMAGE_SUFFIXES
        for top in sorted(folder.iterdir())
        if top.is_dir() and top.name != "images"
        for path in top.rglob("*")
    )
