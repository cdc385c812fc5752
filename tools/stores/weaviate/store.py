"""The case store in Weaviate: for banks that outgrow one machine."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from ....case import SimilarCase
from ....errors import StoreError
from ..base import Search, StoreBase
from ..protocol import EVERYTHING, Entry, Exclusion, Filter, KnownCase
from ..vectors import checked_entry, known_encoder, same_width
from .address import WeaviateAddress, parse_address
from .connection import Connection
from .objects import CASE, THUMBNAIL, Space, case_of, entry_of, thumbnail_of, uuids
from .schema import EXACT_BELOW, add_spaces, compress_large, open_collection, spaces_of
from .search import Searcher, condition_of, count_of, has, portions
from .writer import AT_ONCE, STREAM_FROM, write

if TYPE_CHECKING:
    from weaviate import WeaviateAsyncClient

    from .objects import CaseCollection

T = TypeVar("T")

_SIZE_HOLDS = 5.0
_ADDING: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""By address: what is there is read and then completed, and no other thread may write in between."""


class WeaviateStore(StoreBase):
    """Known cases in one collection of a Weaviate cluster, with a named vector for each encoder.

    It is opened at the first call and opened again after a failure, so that a cluster may come later
    than this program and may go and come back. Among up to 40,000 cases that a search may find it is
    exact; above that Weaviate's graph answers. With several copies of each case a search is answered by
    one of the nodes: one that was down finds what it missed as soon as it has caught up.

    Args:
        address: where it is, see ``WeaviateAddress``.
        readonly: never write; then the collection must be there.
        api_key: for servers that ask for one.

    Raises:
        ConfigurationError: the address is wrong, or the client is not installed.
    """

    def __init__(self, address: str | WeaviateAddress, *, readonly: bool = False, api_key: str = "") -> None:
        self.address = parse_address(address) if isinstance(address, str) else address
        self.readonly = readonly
        self._connection = Connection(self.address, api_key)
        self._lock = threading.Lock()
        self._open = False
        self._spaces: dict[str, Space] = {}
        self._size = (0, float("-inf"))

    def add(self, entries: Iterable[Entry]) -> int:
        """See ``CaseStore.add``; it returns when the servers have acknowledged and written down every case.

        The server replaces an object that is there, so two programs that add vectors of different encoders
        to the same cases at the same moment may keep the vectors of one only; adding them once more completes
        them. Within a program additions take turns.
        """
        self._check_writable()
        # Whole streams at a time, but a small addition is written at once.
        pending, new, step = iter(entries), 0, AT_ONCE
        while batch := [checked_entry(entry) for entry in islice(pending, step)]:
            with _ADDING[str(self.address)]:
                new += self._add(batch)
            step = 4 * STREAM_FROM
        if new >= STREAM_FROM:
            cases = self.count()
            self._run(lambda used: compress_large(used, self.address, cases), seconds=60)
        return new

    def _nearest(self, search: Search) -> list[list[SimilarCase]]:
        number, width = search.queries.shape
        space = self._space(search.encoder, width)
        if space is None:
            return [[] for _ in search.queries]
        exact = self._is_small()
        found = self._run(
            lambda used: Searcher(used, space, search, exact=exact).all(),
            seconds=round(self.address.timeout * (1 + number // 64), 1),
        )
        if not any(found):
            # Its last case may have been deleted by somebody else: then the encoder is forgotten.
            self._spaces = {}
            self._space(search.encoder, width)
        return found

    def get(self, ids: Iterable[str]) -> dict[str, Entry]:
        """See ``CaseStore.get``."""
        return self._read(ids)

    def scan(self, where: Filter = EVERYTHING) -> Iterator[Entry]:
        """See ``CaseStore.scan``; entries are read as they are taken, page by page."""
        last = "00000000-0000-0000-0000-000000000000"
        while page := self._run(lambda used, last=last: _page(used, last)):
            last = page[-1][0]
            # Weaviate's cursor knows no filter.
            wanted = [id for id, case in page if where.accepts(case)]
            held = self.get(wanted)
            yield from (held[id] for id in wanted if id in held)

    def count(self, where: Filter = EVERYTHING) -> int:
        """See ``CaseStore.count``."""
        number = self._run(lambda used: count_of(used, condition_of(where, Exclusion())))
        if where == EVERYTHING:
            self._size = (number, time.monotonic())
        return number

    def delete(self, ids: Iterable[str]) -> int:
        """See ``CaseStore.delete``."""
        self._check_writable()
        parts = portions(uuids(ids), AT_ONCE)
        gone = sum(self._run(lambda used, part=part: _delete(used, part), insist=True) for part in parts)
        self._spaces = {}
        return gone

    def encoders(self) -> dict[str, int]:
        """See ``CaseStore.encoders``."""
        return {space.encoder: space.width for space in self._filled().values()}

    def tasks(self) -> dict[str, int]:
        """See ``CaseStore.tasks``."""
        return self._run(_tasks)

    def thumbnail(self, id: str) -> bytes | None:
        """See ``CaseStore.thumbnail``."""
        return self._run(lambda used: _thumbnail(used, id)) if uuids([id]) else None

    def close(self) -> None:
        """Release the connections; closing twice is harmless."""
        self._connection.close()

    def _check_writable(self) -> None:
        if self.readonly:
            raise StoreError(f"{self.address} was opened read-only; open it without readonly=True")

    def _add(self, batch: Sequence[Entry]) -> int:
        entries: dict[str, Entry] = {}
        for entry in batch:  # a case that comes twice counts once, with the vectors of both
            entries[entry.case.id] = _completed(entries.get(entry.case.id), entry)
        self._prepare(list(entries.values()))
        held = self._run(
            lambda used: _held(used, list(entries)),
            seconds=self.address.timeout * (1 + len(entries) / AT_ONCE),
            insist=True,
        )
        lacking = self._read((id for id in held if set(entries[id].vectors) - held[id]), insist=True)
        fresh = [entry for id, entry in entries.items() if id not in held]
        completed = [_completed(there, entries[id]) for id, there in lacking.items()]
        write(self._run, self.address, [*fresh, *completed])
        return len(fresh)

    def _prepare(self, entries: Sequence[Entry]) -> None:
        """Give the collection the spaces of some entries' vectors."""
        wanted: dict[str, Space] = {}
        for entry in entries:
            for name, vector in entry.vectors.items():
                same_width(name, wanted.setdefault(name, Space(name, len(vector))).width, len(vector))
        if any(self._spaces.get(name) != space for name, space in wanted.items()):
            filled = self._filled()
            for name, space in wanted.items():
                same_width(name, filled.get(name, space).width, space.width)
            spaces = list(wanted.values())
            self._run(lambda used: add_spaces(used, self.address, spaces), seconds=60, insist=True)
            self._spaces |= wanted

    def _space(self, encoder: str, width: int) -> Space | None:
        """The space to search; None for a store without vectors."""
        known = self._spaces.get(encoder)
        if known is None or known.width != width:
            filled = self._filled()
            if not filled:
                return None
            known_encoder(encoder, {name: space.width for name, space in filled.items()})
            known = filled[encoder]
        same_width(encoder, known.width, width)
        return known

    def _filled(self) -> dict[str, Space]:
        """The spaces that hold vectors."""
        spaces: dict[str, Space] = {}
        for space in self._run(_filled):
            if spaces.setdefault(space.encoder, space) != space:
                raise StoreError(
                    f"{self.address} holds vectors of two widths of encoder {space.encoder!r}; two programs "
                    "wrote them at the same time: delete the cases of one and index them again"
                )
        self._spaces = dict(spaces)
        return spaces

    def _is_small(self) -> bool:
        number, asked = self._size
        return (self.count() if time.monotonic() - asked > _SIZE_HOLDS else number) <= EXACT_BELOW

    def _read(self, ids: Iterable[str], *, insist: bool = False) -> dict[str, Entry]:
        found: list[Entry] = []
        for part in portions(uuids(ids), AT_ONCE):
            found += self._run(lambda used, part=part: _entries(used, part), insist=insist)
        return {entry.case.id: entry for entry in found}

    def _run(
        self,
        work: Callable[[CaseCollection], Awaitable[T]],
        /,
        *,
        seconds: float | None = None,
        insist: bool = False,
    ) -> T:
        """Run work on the collection, which is opened first; see ``Connection.run``."""
        with self._lock:
            if not self._open:
                self._connection.run(self._opened, insist=insist, seconds=60 if insist else None)
                self._open = True
        return self._connection.run(lambda client: work(self._used(client)), seconds=seconds, insist=insist)

    async def _opened(self, client: WeaviateAsyncClient) -> None:
        await open_collection(client, self.address, writable=not self.readonly)

    def _used(self, client: WeaviateAsyncClient) -> CaseCollection:
        from weaviate.classes.config import ConsistencyLevel

        collection = client.collections.use(self.address.collection)
        if self.address.tenant:
            collection = collection.with_tenant(self.address.tenant)
        return collection.with_consistency_level(ConsistencyLevel[self.address.consistency.upper()])


def _completed(first: Entry | None, more: Entry) -> Entry:
    """An entry with the vectors that it lacks from another one of the same case."""
    if first is None:
        return more
    return Entry(first.case, {**more.vectors, **first.vectors}, first.thumbnail)


async def _page(collection: CaseCollection, last: str) -> list[tuple[str, KnownCase]]:
    answer = await collection.query.fetch_objects(limit=AT_ONCE, after=last, return_properties=CASE)
    return [(str(one.uuid), case_of(one.properties)) for one in answer.objects]


async def _entries(collection: CaseCollection, ids: Sequence[str]) -> list[Entry]:
    spaces = spaces_of(await collection.config.get())
    answer = await collection.query.fetch_objects_by_ids(
        ids, limit=len(ids), include_vector=True, return_properties=[*CASE, THUMBNAIL]
    )
    return [entry_of(one.properties, one.vector, spaces) for one in answer.objects]


async def _held(collection: CaseCollection, ids: Sequence[str]) -> dict[str, set[str]]:
    """Which of some cases are there, and of which encoders they have vectors."""
    flags = {space.flag: space.encoder for space in spaces_of(await collection.config.get())}
    held: dict[str, set[str]] = {}
    for part in portions(ids, AT_ONCE):
        answer = await collection.query.fetch_objects_by_ids(
            part, limit=len(part), return_properties=["sha256", *flags]
        )
        for one in answer.objects:
            held[str(one.uuid)] = {encoder for flag, encoder in flags.items() if one.properties.get(flag)}
    return held


async def _filled(collection: CaseCollection) -> list[Space]:
    spaces = spaces_of(await collection.config.get())
    return [space for space in spaces if await count_of(collection, has(space))]


async def _tasks(collection: CaseCollection) -> dict[str, int]:
    from weaviate.classes.aggregate import GroupByAggregate

    answer = await collection.aggregate.over_all(group_by=GroupByAggregate(prop="task"), total_count=True)
    return dict(sorted((str(group.grouped_by.value), group.total_count or 0) for group in answer.groups))


async def _delete(collection: CaseCollection, ids: Sequence[str]) -> int:
    from weaviate.classes.query import Filter as By

    answer = await collection.data.delete_many(where=By.by_id().contains_any(ids))
    if answer.failed:
        raise StoreError(f"{answer.failed} of {answer.matches} cases could not be deleted; try again")
    return answer.successful


async def _thumbnail(collection: CaseCollection, id: str) -> bytes | None:
    one = await collection.query.fetch_object_by_id(id, return_properties=[THUMBNAIL])
    return thumbnail_of(one.properties) if one else None
