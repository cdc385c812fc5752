"""A case as an object of Weaviate, and back."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ....errors import StoreError
from ..protocol import Entry, KnownCase, Vectors
from .space import Space


class Field(NamedTuple):
    """A property of every object."""

    name: str
    kind: Literal["text", "texts", "blob"]
    filtered: bool = False
    words: bool = False
    """Whether words of it can be searched for."""


FIELDS = (
    Field("sha256", "text", filtered=True),
    Field("task", "text", filtered=True),
    Field("labels", "texts", filtered=True),
    Field("modality", "text", filtered=True),
    Field("group", "text", filtered=True),
    Field("source", "text"),
    Field("licence", "text"),
    Field("report", "text", words=True),
    Field("thumbnail", "blob"),
)
CASE = [field.name for field in FIELDS if field.kind != "blob"]
"""The properties that make a ``KnownCase``."""


def properties_of(entry: Entry, spaces: Iterable[Space]) -> dict[str, Any]:
    """The properties of a new object, with the vectors that it comes with."""
    case = entry.case
    values: dict[str, Any] = {
        "sha256": case.sha256,
        "task": case.task,
        "labels": list(case.labels),
        "modality": case.modality,
        "group": case.group,
        "source": case.source,
        "licence": case.licence,
        **{space.flag: True for space in spaces},
    }
    if case.report is not None:
        values["report"] = case.report
    if entry.thumbnail:
        values["thumbnail"] = base64.b64encode(entry.thumbnail).decode("ascii")
    return values


def case_of(properties: Mapping[str, Any]) -> KnownCase:
    """The known case of an object.

    Raises:
        StoreError: the object is not one.
    """
    try:
        return KnownCase(
            sha256=properties["sha256"],
            task=properties["task"],
            labels=tuple(properties.get("labels") or ()),
            modality=properties.get("modality") or "",
            group=properties.get("group") or "",
            source=properties.get("source") or "",
            licence=properties.get("licence") or "",
            report=properties.get("report"),
        )
    except (KeyError, ValueError) as error:
        raise StoreError("the collection holds an object that is no case; something else wrote it") from error


def entry_of(properties: Mapping[str, Any], vectors: Mapping[str, Any], spaces: Sequence[Space]) -> Entry:
    """The entry of an object."""
    own = {space.encoder: normalised(vectors[space.vector]) for space in spaces if vectors.get(space.vector)}
    return Entry(case_of(properties), dict(sorted(own.items())), thumbnail_of(properties))


def thumbnail_of(properties: Mapping[str, Any]) -> bytes | None:
    """The small JPEG of an object, if it has one."""
    text = properties.get("thumbnail")
    return base64.b64decode(text) if text else None


def normalised(vector: Any) -> Vectors:
    """A vector that Weaviate gave back, of length one: searching by cosine it may have kept it so or not."""
    array = np.asarray(vector, np.float32)
    return (array / np.linalg.norm(array)).astype(np.float32)


def uuids(ids: Iterable[str]) -> list[str]:
    """Those of some ids that can be ids of cases at all, in the way that a case's own id is written."""
    found = []
    for id in dict.fromkeys(ids):
        try:
            if str(uuid.UUID(id)) == id:
                found.append(id)
        except ValueError:
            continue
    return found
