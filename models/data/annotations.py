"""Exports of annotation tools: COCO and Label Studio. Labels are read, outlines are not."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from ...disk import read_file
from ...errors import ConfigurationError
from ..splits import Split
from .rows import DatasetLayout, LabelledRow, split_named

if TYPE_CHECKING:
    from typing_extensions import TypeIs

_MAX_BYTES = 2**30
_LABELS = (
    "choices",
    "rectanglelabels",
    "polygonlabels",
    "brushlabels",
    "keypointlabels",
    "ellipselabels",
    "labels",
)
"""Keys of a Label Studio result's value that hold labels."""


def read_annotations(path: Path, multilabel: bool | None) -> DatasetLayout:
    """Read a COCO or Label Studio export.

    Args:
        path: a JSON file.
        multilabel: whether images may have several labels; None: where any image has.

    Raises:
        ConfigurationError: the file is neither, an image has no label, or annotators disagree about one.
    """
    content = _loaded(path)
    if is_coco(content):
        layout = DatasetLayout(_coco_rows(content, path), f"COCO annotations {path.name}")
    elif is_label_studio(content):
        layout = DatasetLayout([], f"Label Studio export {path.name}")
        try:
            layout.rows = list(_label_studio_rows(content, layout))
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigurationError(f"{path.name} is no valid Label Studio export: {error}") from error
    else:
        raise ConfigurationError(f"{path.name} is neither a COCO nor a Label Studio export")
    several = any(len(row.labels) != 1 for row in layout.rows)
    if several and multilabel is False:
        row = next(row for row in layout.rows if len(row.labels) != 1)
        what = f"has the labels {', '.join(row.labels)}" if row.labels else "has no label"
        raise ConfigurationError(f"image {row.path!r} of {path.name} {what}, but the task asks for one")
    layout.multilabel = several if multilabel is None else multilabel
    return layout


def annotation_files(folder: Path) -> list[Path]:
    """COCO and Label Studio exports of a folder and the folders directly inside it."""
    candidates = [*sorted(folder.glob("*.json")), *sorted(folder.glob("*/*.json"))]
    return [path for path in candidates if not path.name.startswith(".") and is_export(path)]


def is_export(path: Path) -> bool:
    """Whether a JSON file is a COCO or Label Studio export."""
    try:
        content = _loaded(path)
    except ConfigurationError:
        return False
    return is_coco(content) or is_label_studio(content)


def _loaded(path: Path) -> object:
    try:
        return json.loads(read_file(path, _MAX_BYTES).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"cannot read {path.name} as JSON: {error}") from error


def is_coco(content: object) -> TypeIs[Mapping[str, Any]]:
    """Whether JSON has the three lists of COCO."""
    return isinstance(content, Mapping) and all(
        isinstance(content.get(name), list) for name in ("images", "annotations", "categories")
    )


def is_label_studio(content: object) -> TypeIs[list[Mapping[str, Any]]]:
    """Whether JSON is a list of Label Studio tasks, in the full or the short form."""
    if not isinstance(content, list) or not content or not isinstance(content[0], Mapping):
        return False
    first = content[0]
    if isinstance(first.get("data"), Mapping) and ("annotations" in first or "completions" in first):
        return True
    return isinstance(first.get("image"), str) and bool({"choice", "annotation_id"} & first.keys())


def _coco_rows(content: Mapping[str, Any], path: Path) -> list[LabelledRow]:
    try:
        names = {category["id"]: str(category["name"]).strip() for category in content["categories"]}
        labels: dict[object, list[str]] = defaultdict(list)
        for annotation in content["annotations"]:
            labels[annotation["image_id"]].append(names[annotation["category_id"]])
        split = _split_of(path)
        return [
            LabelledRow(str(image["file_name"]), tuple(dict.fromkeys(labels[image["id"]])), split=split)
            for image in content["images"]
        ]
    except (KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path.name} is not a valid COCO file: {error} is missing or wrong"
        ) from error


def _split_of(path: Path) -> Split | None:
    """By the name of the file (``instances_train2017.json``) or of its folder."""
    words = [word for word in re.split(r"[^A-Za-z]+", path.stem) if word]
    found: list[Split] = [split for word in words if (split := split_named(word))]
    return found[0] if len(set(found)) == 1 else split_named(path.parent.name)


def _label_studio_rows(content: Sequence[Mapping[str, Any]], layout: DatasetLayout) -> Iterator[LabelledRow]:
    for task in content:
        short = "data" not in task
        data = task if short else task["data"]
        place = _image_of(data)
        if short:
            answers = [_short_labels(task)]
        else:
            answers = [
                _result_labels(annotation)
                for annotation in task.get("annotations") or task.get("completions") or []
                if not annotation.get("was_cancelled")
            ]
        answers = [labels for labels in answers if labels]
        if not answers:
            layout.leave_out("without a label", place)
            continue
        if any(set(labels) != set(answers[0]) for labels in answers):
            opinions = " or ".join("+".join(labels) for labels in answers[:3])
            raise ConfigurationError(
                f"annotators disagree about {place!r}: {opinions}; settle it and export again"
            )
        yield LabelledRow(place, answers[0])


def _image_of(data: Mapping[str, Any]) -> str:
    for key in ("image", "img", "dicom", *data):
        if isinstance(value := data.get(key), str) and value:
            return local_name(value)
    raise ConfigurationError("a task of the Label Studio export names no image")


def local_name(address: str) -> str:
    """The file that a Label Studio address stands for, as far as the address tells."""
    parts = urlsplit(address)
    named = parse_qs(parts.query).get("d")
    return named[0] if named else unquote(parts.path).lstrip("/")


def _short_labels(task: Mapping[str, Any]) -> tuple[str, ...]:
    found = task.get("choice", task.get("label"))
    if isinstance(found, Mapping):
        found = found.get("choices")
    several = found if isinstance(found, list) else [found]
    names: list[str] = []
    for one in several:
        if isinstance(one, Mapping):
            names += [str(name) for key in _LABELS for name in one.get(key) or []]
        elif one:
            names.append(str(one))
    return tuple(dict.fromkeys(name.strip() for name in names))


def _result_labels(annotation: Mapping[str, Any]) -> tuple[str, ...]:
    names = [
        str(name).strip()
        for result in annotation.get("result") or []
        for key in _LABELS
        for name in (result.get("value") or {}).get(key) or []
    ]
    return tuple(dict.fromkeys(names))
