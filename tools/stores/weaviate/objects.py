"""A case as an object of Weaviate, and back; and the vectors of an encoder as Weaviate knows them."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ....errors import StoreError
from ..protocol import Entry, KnownCase

if TYPE_CHECKING:
    from weaviate.classes.data import DataObject
    from weaviate.collections import CollectionAsync

    CaseCollection = CollectionAsync[Any, None]

CASE = list(KnownCase.model_fields)
"""The properties that make a ``KnownCase``; beside them lie the thumbnail and a flag for each encoder."""
THUMBNAIL = "thumbnail"
FLAG = "has_"
"""Properties that say which cases have an encoder's vector begin so."""


class Space(NamedTuple):
    """The vectors of one encoder.

    An encoder's name may be any text and a named vector's may not, so its names in Weaviate are made of a
    key, and the key of both name and width: a name with another width is another space.
    """

    encoder: str
    width: int

    @property
    def key(self) -> str:
        """What its names in Weaviate end with."""
        return hashlib.sha256(f"{self.width}/{self.encoder}".encode()).hexdigest()[:16]

    @property
    def vector(self) -> str:
        """The named vector."""
        return f"v_{self.key}"

    @property
    def flag(self) -> str:
        """The property that says which cases have it."""
        return f"{FLAG}{self.key}"


def object_of(entry: Entry) -> DataObject[dict[str, Any], None]:
    """The object of an entry."""
    from weaviate.classes.data import DataObject

    spaces = {name: Space(name, len(vector)) for name, vector in entry.vectors.items()}
    properties = entry.case.model_dump(mode="json", exclude_none=True)
    properties |= {space.flag: True for space in spaces.values()}
    if entry.thumbnail:
        properties[THUMBNAIL] = base64.b64encode(entry.thumbnail).decode("ascii")
    vectors = {space.vector: entry.vectors[name].tolist() for name, space in spaces.items()}
    return DataObject(properties=properties, uuid=entry.case.id, vector=vectors)


def case_of(properties: Mapping[str, Any]) -> KnownCase:
    """The known case of an object.

    Raises:
        StoreError: the object is not one.
    """
    given = {name: properties[name] for name in CASE if properties.get(name) is not None}
    try:
        return KnownCase.model_validate({"labels": (), **given})
    except ValueError as error:
        raise StoreError("the collection holds an object that is not a case") from error


def entry_of(properties: Mapping[str, Any], vectors: Mapping[str, object], spaces: Sequence[Space]) -> Entry:
    """The entry of an object."""
    own = {}
    for space in sorted(spaces):
        if vectors.get(space.vector):
            # Searching by cosine, Weaviate may have kept it normalised or not.
            vector = np.asarray(vectors[space.vector], np.float32)
            own[space.encoder] = vector / np.linalg.norm(vector)
    return Entry(case_of(properties), own, thumbnail_of(properties))


def thumbnail_of(properties: Mapping[str, Any]) -> bytes | None:
    """The small JPEG of an object, if it has one."""
    text = properties.get(THUMBNAIL)
    return base64.b64decode(text) if text else None


def uuids(ids: Iterable[str]) -> list[str]:
    """Those of some ids that can be ids of cases at all, in the way that a case's own id is written."""
    return [id for id in dict.fromkeys(ids) if _is_uuid(id)]


def _is_uuid(id: str) -> bool:
    try:
        return str(uuid.UUID(id)) == id
    except ValueError:
        return False
