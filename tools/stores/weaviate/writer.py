"""Writing cases: many through Weaviate's own batching, and each one that failed again until it is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....errors import StoreError, VectorMismatch
from .connection import Connection
from .failures import INDEXING, Unreachable, in_words

if TYPE_CHECKING:
    from weaviate import WeaviateAsyncClient
    from weaviate.collections import CollectionAsync

STREAM_FROM = 1000
"""So many objects at once are worth a stream, in which the server sets the pace; it takes a second to end."""
TRIES = 6
_WAIT = 0.25
_COMPRESSING = 1800.0
_OBJECTS_AT_ONCE = 256
_BYTES_AT_ONCE = 16_000_000
_UPDATES_AT_ONCE = 8
_NOBODY = "00000000-0000-0000-0000-000000000000"

_WIDTHS = ("vector lengths don't match", "different vector length", "a vector with length")

Used = Callable[["WeaviateAsyncClient"], "CollectionAsync[Any, None]"]


@dataclass(frozen=True)
class PendingObject:
    """An object to be written, whole or as an addition to the one that is there."""

    id: str
    properties: Mapping[str, Any]
    vectors: Mapping[str, list[float]]


class ObjectWriter:
    """Writes objects and returns only when the servers have acknowledged every one.

    Args:
        connection: to the cluster.
        used: the collection of a client, with tenant and consistency set.
    """

    def __init__(self, connection: Connection, used: Used) -> None:
        self._connection, self._used = connection, used
        self._buffered = False

    def insert(self, objects: Sequence[PendingObject]) -> None:
        """Write new objects.

        Raises:
            VectorMismatch: a vector's width is not the one that the server has seen first.
            StoreError: objects were refused again and again, or no server answers.
        """
        left = {one.id: one for one in objects}
        self._buffered = self._buffered or bool(left)
        if len(left) >= STREAM_FROM:
            for id in self._streamed(list(left.values())):
                left.pop(id, None)
        self._until_written(left, self._inserted)

    def flush(self) -> None:
        """Have the servers write down the vectors of what was inserted.

        Raises:
            StoreError: no server answers.
        """
        if self._buffered:
            self._connection.run(lambda client: _flush(self._used(client)), seconds=60, insist=True)
            self._buffered = False

    def complete(self, objects: Sequence[PendingObject]) -> None:
        """Give objects that are there the vectors that they lack.

        Raises:
            VectorMismatch: a vector's width is not the one that the server has seen first.
            StoreError: objects were refused again and again, or no server answers.
        """
        self._until_written({one.id: one for one in objects}, self._completed)

    def _until_written(
        self, left: dict[str, PendingObject], write: Callable[[list[PendingObject]], Mapping[str, str]]
    ) -> None:
        number, reason, turn = len(left), "", 0
        end = time.monotonic() + _COMPRESSING
        while left and turn < TRIES:
            try:
                failures = write(list(left.values()))
            except Unreachable:
                if turn >= TRIES - 1:
                    raise
                failures = dict.fromkeys(left, "no server answers")
            for why in failures.values():
                _refuse_width(why)
            left = {id: left[id] for id in failures}
            reason = next(iter(failures.values()), "")
            if left and INDEXING in reason.lower() and time.monotonic() < end:
                # Nothing can be written while the vectors are compressed, which may take minutes.
                time.sleep(10 * _WAIT)
                continue
            turn += 1
            if left and turn < TRIES:
                time.sleep(_WAIT * 2**turn)
        if left:
            where = f"{self._connection.address}: {len(left)} of {number} cases could not be written; it"
            raise in_words(where, StoreError(reason))

    def _inserted(self, objects: list[PendingObject]) -> Mapping[str, str]:
        failures: dict[str, str] = {}
        for part in _portions(objects):
            failures |= self._connection.run(
                lambda client, part=part: _insert(self._used(client), part),
                seconds=_patience(part),
                insist=True,
            )
        return failures

    def _completed(self, objects: list[PendingObject]) -> Mapping[str, str]:
        return self._connection.run(
            lambda client: _update(self._used(client), objects), seconds=_patience(objects), insist=True
        )

    def _streamed(self, objects: list[PendingObject]) -> set[str]:
        """The ids of those that a stream wrote; whatever ended it early, the rest is written otherwise."""
        try:
            return self._connection.run(
                lambda client: _stream(self._used(client), objects),
                seconds=_patience(objects),
                insist=True,
                own=True,
            )
        except Unreachable:
            return set()


async def _insert(collection: CollectionAsync[Any, None], objects: Sequence[PendingObject]) -> dict[str, str]:
    """Write objects in one request and return why some of them failed."""
    from weaviate.classes.data import DataObject
    from weaviate.exceptions import WeaviateInsertManyAllFailedError

    new = [DataObject(properties=one.properties, uuid=one.id, vector=dict(one.vectors)) for one in objects]
    try:
        answer = await collection.data.insert_many(new)
    except WeaviateInsertManyAllFailedError as error:
        return dict.fromkeys((one.id for one in objects), error.message)
    return {objects[at].id: error.message for at, error in answer.errors.items()}


async def _update(collection: CollectionAsync[Any, None], objects: Sequence[PendingObject]) -> dict[str, str]:
    from weaviate.exceptions import UnexpectedStatusCodeError

    turn = asyncio.Semaphore(_UPDATES_AT_ONCE)
    failures: dict[str, str] = {}

    async def update(one: PendingObject) -> None:
        async with turn:
            try:
                await collection.data.update(
                    one.id, properties=dict(one.properties), vector=dict(one.vectors)
                )
            except UnexpectedStatusCodeError as error:
                failures[one.id] = error.message

    await asyncio.gather(*map(update, objects))
    return failures


async def _stream(collection: CollectionAsync[Any, None], objects: Sequence[PendingObject]) -> set[str]:
    """Write objects through server-side batching and return the ids that were acknowledged."""
    async with collection.batch.stream() as batch:
        for one in objects:
            await batch.add_object(properties=one.properties, uuid=one.id, vector=dict(one.vectors))
    return {str(id) for id in collection.batch.results.objs.uuids.values()}


async def _flush(collection: CollectionAsync[Any, None]) -> None:
    """Rehearse the deletion of nothing, which writes the logs of all vector indexes.

    A server (1.38) writes those logs at the end of a batch, but does not wait for the batch's vectors: a
    power cut right after would leave the cases and lose their vectors.
    """
    from weaviate.classes.query import Filter as By

    await collection.data.delete_many(where=By.by_id().equal(_NOBODY), dry_run=True)


def _portions(objects: Sequence[PendingObject]) -> list[list[PendingObject]]:
    """Requests of a bounded size: a server refuses large messages."""
    portions: list[list[PendingObject]] = [[]]
    size = 0
    for one in objects:
        own = sum(len(value) for value in one.properties.values() if isinstance(value, str))
        own += sum(8 * len(vector) for vector in one.vectors.values())
        if portions[-1] and (len(portions[-1]) == _OBJECTS_AT_ONCE or size + own > _BYTES_AT_ONCE):
            portions.append([])
            size = 0
        portions[-1].append(one)
        size += own
    return portions


def _patience(objects: Sequence[PendingObject]) -> float:
    """Seconds that writing may take: a loaded server indexes tens of cases a second, not hundreds."""
    return 60.0 + len(objects) / 20


def _refuse_width(reason: str) -> None:
    if any(sign in reason.lower() for sign in _WIDTHS):
        raise VectorMismatch(f"a vector has another width than the encoder's other vectors: {reason[:200]}")
