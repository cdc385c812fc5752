"""Writing cases through Weaviate's own batching, and each one that failed again until it is there."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from ....errors import StoreError, VectorMismatch
from ..protocol import Entry
from .address import WeaviateAddress
from .failures import INDEXING, Unreachable, in_words
from .objects import object_of

if TYPE_CHECKING:
    from .objects import CaseCollection

T = TypeVar("T")

STREAM_FROM = 1000
"""So many objects at once are worth a stream, in which the server sets the pace; it takes a second to end."""
AT_ONCE = 256
"""Objects of one request, where they are fewer."""
TRIES = 6
_WAIT = 0.25
_COMPRESSING = 1800.0
_NO_ID = "00000000-0000-0000-0000-000000000000"
_WIDTHS = ("vector lengths don't match", "different vector length", "a vector with length")


class CollectionRunner(Protocol):
    """Runs work on the collection, whichever of the hosts answers."""

    def __call__(
        self,
        work: Callable[[CaseCollection], Awaitable[T]],
        /,
        *,
        seconds: float | None = None,
        insist: bool = False,
    ) -> T:
        """Run work and return its result."""
        ...


def write(run: CollectionRunner, address: WeaviateAddress, entries: Sequence[Entry]) -> None:
    """Write entries; those that are there are replaced. It returns once the servers acknowledged every one.

    Raises:
        VectorMismatch: a vector's width is not the one that the server has seen first.
        StoreError: entries were refused again and again, or no server answers.
    """
    left = {entry.case.id: entry for entry in entries}
    reason, turn, end = "", 0, time.monotonic() + _COMPRESSING
    while left and turn < TRIES:
        failures: dict[str, str] = {}
        try:
            for part in _parts(list(left.values())):
                # A loaded server indexes tens of cases a second, not hundreds.
                seconds = 60.0 + len(part) / 20
                failures |= run(lambda used, part=part: _insert(used, part), seconds=seconds, insist=True)
        except Unreachable:
            if turn >= TRIES - 1:
                raise
            failures = dict.fromkeys(left, "no server answers")
        for reason in failures.values():
            if any(sign in reason.lower() for sign in _WIDTHS):
                raise VectorMismatch(
                    f"a vector has another width than the encoder's other vectors: {reason[:200]}"
                )
        left = {id: left[id] for id in failures}
        if left and INDEXING in reason.lower() and time.monotonic() < end:
            # Nothing can be written while the vectors are compressed, which may take minutes.
            time.sleep(10 * _WAIT)
            continue
        turn += 1
        if left and turn < TRIES:
            time.sleep(_WAIT * 2**turn)
    if left:
        where = f"{address}: {len(left)} of {len(entries)} cases could not be written; it"
        raise in_words(where, StoreError(reason))
    if entries:
        run(_flush, seconds=60, insist=True)


def _parts(entries: list[Entry]) -> list[list[Entry]]:
    if len(entries) >= STREAM_FROM:
        return [entries]
    return [entries[at : at + AT_ONCE] for at in range(0, len(entries), AT_ONCE)]


async def _insert(collection: CaseCollection, entries: Sequence[Entry]) -> dict[str, str]:
    """Write entries and return by id why some of them failed."""
    from weaviate.exceptions import WeaviateInsertManyAllFailedError

    objects = [object_of(entry) for entry in entries]
    try:
        data = collection.data
        answer = await (data.ingest(objects) if len(objects) >= STREAM_FROM else data.insert_many(objects))
    except WeaviateInsertManyAllFailedError as error:
        return dict.fromkeys((entry.case.id for entry in entries), error.message)
    written = {str(id) for id in answer.uuids.values()}
    reasons = {str(error.object_.uuid): error.message for error in answer.errors.values()}
    lost = "the server did not acknowledge it"
    return {e.case.id: reasons.get(e.case.id, lost) for e in entries if e.case.id not in written}


async def _flush(collection: CaseCollection) -> None:
    """Rehearse the deletion of nothing, which writes the logs of all vector indexes.

    A server (1.38) writes those logs at the end of a batch, but does not wait for the batch's vectors: a
    power cut right after would leave the cases and lose their vectors.
    """
    from weaviate.classes.query import Filter as By

    await collection.data.delete_many(where=By.by_id().equal(_NO_ID), dry_run=True)
