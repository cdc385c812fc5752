"""The case store in Weaviate: for banks that outgrow one machine."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ....case import SimilarCase
from ....errors import ConfigurationError, StoreError
from ..protocol import EVERYTHING, Entry, Exclusion, Filter, Vectors
from ..vectors import checked_entry, checked_queries, known_encoder, same_width
from .address import WeaviateAddress, parse_address
from .connection import Connection
from .indexes import EXACT_BELOW, compress_large
from .objects import CASE, case_of, entry_of, properties_of, thumbnail_of, uuids
from .schema import add_spaces, open_collection, spaces_of
from .search import Query, Searcher, condition_of, count_of, has
from .space import Space
from .writer import STREAM_FROM, ObjectWriter, PendingObject

if TYPE_CHECKING:
    from weaviate import WeaviateAsyncClient
    from weaviate.collections import CollectionAsync

T = TypeVar("T")

_READ_AT_ONCE = 256
_SIZE_HOLDS = 5.0
_NOTHING = Exclusion()
_ADDING: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""By address: what is there is read and then completed, and no other thread may write in between."""


class WeaviateStore:
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
        self._writer = ObjectWriter(self._connection, self._used)
        self._lock = threading.Lock()
        self._open = False
        self._spaces: dict[str, Space] = {}
        self._size = (0, float("-inf"))

    def add(self, entries: Iterable[Entry]) -> int:
        """See ``CaseStore.add``; it returns when the servers have acknowledged and written down every case.

        The server replaces an object that was not there a moment ago, so two programs that add the same new
        cases with different encoders at the same moment may keep the vectors of one only; adding them once
        more completes them. Within a program additions take turns.
        """
        if self.readonly:
            raise StoreError(f"{self.address} was opened read-only; open it without readonly=True")
        # Whole streams at a time, but a small addition is written at once.
        pending, new, step = iter(entries), 0, _READ_AT_ONCE
        while batch := [checked_entry(entry) for entry in islice(pending, step)]:
            with _ADDING[str(self.address)]:
                new += self._add(batch)
            step = 4 * STREAM_FROM
        if new >= STREAM_FROM:
            self._compress()
        return new

    def search(
        self,
        vectors: Vectors,
        encoder: str,
        k: int,
        *,
        where: Filter = EVERYTHING,
        exclude: Sequence[Exclusion] = (),
    ) -> list[list[SimilarCase]]:
        """See ``CaseStore.search``."""
        queries = checked_queries(vectors, k, exclude)
        if queries is None:
            return [[] for _ in vectors]
        space = self._space(encoder, queries.shape[1])
        if space is None:
            return [[] for _ in queries]
        exact = self._is_small()
        asked = [
            Query(vector, k, where, exclude[at] if exclude else _NOTHING) for at, vector in enumerate(queries)
        ]
        found = self._run(
            lambda client: Searcher(self._used(client), space, exact=exact).all(asked),
            seconds=round(self.address.timeout * (1 + len(asked) // 64), 1),
        )
        if not any(found):
            # Its last case may have been deleted by somebody else: then the encoder is forgotten.
            self._spaces = {}
            self._space(encoder, queries.shape[1])
        return found

    def get(self, ids: Iterable[str]) -> dict[str, Entry]:
        """See ``CaseStore.get``."""
        wanted, found = uuids(ids), {}
        for at in range(0, len(wanted), _READ_AT_ONCE):
            part = wanted[at : at + _READ_AT_ONCE]
            found |= {
                entry.case.id: entry for entry in self._run(lambda c, part=part: self._entries(c, ids=part))
            }
        return found

    def scan(self, where: Filter = EVERYTHING) -> Iterator[Entry]:
        """See ``CaseStore.scan``; entries are read as they are taken, page by page."""
        last = "00000000-0000-0000-0000-000000000000"
        while True:
            page = self._run(lambda client, last=last: _page(self._used(client), last))
            if not page:
                return
            last = page[-1][0]
            # Weaviate's cursor knows no filter.
            wanted = [id for id, case in page if where.accepts(case)]
            held = self.get(wanted)
            yield from (held[id] for id in wanted if id in held)

    def count(self, where: Filter = EVERYTHING) -> int:
        """See ``CaseStore.count``."""
        number = self._run(lambda client: count_of(self._used(client), condition_of(where)))
        if where == EVERYTHING:
            self._size = (number, time.monotonic())
        return number

    def delete(self, ids: Iterable[str]) -> int:
        """See ``CaseStore.delete``."""
        if self.readonly:
            raise StoreError(f"{self.address} was opened read-only; open it without readonly=True")
        wanted, gone = uuids(ids), 0
        for at in range(0, len(wanted), _READ_AT_ONCE):
            part = wanted[at : at + _READ_AT_ONCE]
            gone += self._run(lambda client, part=part: _delete(self._used(client), part), insist=True)
        self._spaces = {}
        return gone

    def encoders(self) -> dict[str, int]:
        """See ``CaseStore.encoders``."""
        return {space.encoder: space.width for space in self._filled().values()}

    def tasks(self) -> dict[str, int]:
        """See ``CaseStore.tasks``."""
        return self._run(lambda client: _tasks(self._used(client)))

    def thumbnail(self, id: str) -> bytes | None:
        """See ``CaseStore.thumbnail``."""
        if not uuids([id]):
            return None
        return self._run(lambda client: _thumbnail(self._used(client), id))

    def close(self) -> None:
        """Release the connections; closing twice is harmless."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, batch: Sequence[Entry]) -> int:
        entries = _merged(batch)
        spaces = self._prepared(entries)
        held = self._run(
            lambda client: self._held(client, [entry.case.id for entry in entries]),
            seconds=self.address.timeout * (1 + len(entries) / 256),
            insist=True,
        )
        fresh = [entry for entry in entries if entry.case.id not in held]
        self._writer.insert([_writable(entry, spaces, set(), whole=True) for entry in fresh])
        lacking = [
            _writable(entry, spaces, held[entry.case.id], whole=False)
            for entry in entries
            if entry.case.id in held
        ]
        self._writer.complete([one for one in lacking if one.vectors])
        self._writer.flush()
        return len(fresh)

    def _prepared(self, entries: Sequence[Entry]) -> dict[str, Space]:
        """The spaces of some entries' vectors, which the collection has from now on."""
        wanted: dict[str, Space] = {}
        for entry in entries:
            for name, vector in entry.vectors.items():
                same_width(name, wanted.setdefault(name, Space(name, len(vector))).width, len(vector))
        if any(self._spaces.get(name) != space for name, space in wanted.items()):
            filled = self._filled()
            for name, space in wanted.items():
                same_width(name, filled.get(name, space).width, space.width)
            missing = list(wanted.values())
            self._run(
                lambda client: add_spaces(self._used(client), self.address, missing), seconds=60, insist=True
            )
            self._spaces |= wanted
        return wanted

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
        counted = self._run(lambda client: _filled(self._used(client)))
        spaces: dict[str, Space] = {}
        for space in counted:
            if space.encoder in spaces:
                raise StoreError(
                    f"{self.address} holds vectors of two widths of encoder {space.encoder!r}; two programs "
                    "wrote them at the same time: delete the cases of one and index them again"
                )
            spaces[space.encoder] = space
        self._spaces = dict(spaces)
        return spaces

    def _is_small(self) -> bool:
        number, asked = self._size
        if time.monotonic() - asked > _SIZE_HOLDS:
            number = self.count()
        return number <= EXACT_BELOW

    def _compress(self) -> None:
        cases = self.count()

        async def compress(client: WeaviateAsyncClient) -> bool:
            collection = self._used(client)
            return await compress_large(collection, await collection.config.get(), self.address, cases)

        self._run(compress, seconds=60)

    def _run(
        self,
        work: Callable[[WeaviateAsyncClient], Awaitable[T]],
        *,
        seconds: float | None = None,
        insist: bool = False,
    ) -> T:
        if not self._open:
            with self._lock:
                if not self._open:
                    self._connection.run(self._opened, insist=insist, seconds=60 if insist else None)
                    self._open = True
        return self._connection.run(work, seconds=seconds, insist=insist)

    async def _opened(self, client: WeaviateAsyncClient) -> None:
        await open_collection(client, self.address, writable=not self.readonly)

    def _used(self, client: WeaviateAsyncClient) -> CollectionAsync[Any, None]:
        from weaviate.classes.config import ConsistencyLevel

        collection = client.collections.use(self.address.collection)
        if self.address.tenant:
            collection = collection.with_tenant(self.address.tenant)
        return collection.with_consistency_level(ConsistencyLevel[self.address.consistency.upper()])

    async def _entries(self, client: WeaviateAsyncClient, ids: Sequence[str]) -> list[Entry]:
        collection = self._used(client)
        spaces = spaces_of(await collection.config.get())
        answer = await collection.query.fetch_objects_by_ids(
            ids, limit=len(ids), include_vector=True, return_properties=[*CASE, "thumbnail"]
        )
        return [entry_of(one.properties, one.vector, spaces) for one in answer.objects]

    async def _held(self, client: WeaviateAsyncClient, ids: Sequence[str]) -> dict[str, set[str]]:
        """Which of some cases are there, and of which spaces they have vectors."""
        collection = self._used(client)
        spaces = spaces_of(await collection.config.get())
        held: dict[str, set[str]] = {}
        for at in range(0, len(ids), _READ_AT_ONCE):
            part = ids[at : at + _READ_AT_ONCE]
            answer = await collection.query.fetch_objects_by_ids(
                part, limit=len(part), return_properties=["sha256", *(space.flag for space in spaces)]
            )
            for one in answer.objects:
                held[str(one.uuid)] = {s.encoder for s in spaces if one.properties.get(s.flag)}
        return held


def open_weaviate(address: str, *, writable: bool, api_key: str = "") -> WeaviateStore:
    """Open the store at an address of the kind ``weaviate://``.

    Raises:
        ConfigurationError: the address is wrong, or the client is not installed.
    """
    store = WeaviateStore(address, readonly=not writable, api_key=api_key)
    if store.address.consistency == "all" and store.address.replication == 1:
        raise ConfigurationError("consistency=all says nothing where each case is kept once; leave it out")
    return store


def _merged(batch: Sequence[Entry]) -> list[Entry]:
    """A case that comes twice counts once, with the vectors of both; the first of each is taken."""
    entries: dict[str, Entry] = {}
    for entry in batch:
        first = entries.get(entry.case.id)
        if first is None:
            entries[entry.case.id] = entry
        else:
            both = {**entry.vectors, **first.vectors}
            entries[entry.case.id] = Entry(first.case, both, first.thumbnail)
    return list(entries.values())


def _writable(entry: Entry, spaces: dict[str, Space], held: set[str], *, whole: bool) -> PendingObject:
    new = [spaces[name] for name in entry.vectors if name not in held]
    properties = properties_of(entry, new) if whole else {space.flag: True for space in new}
    vectors = {space.vector: entry.vectors[space.encoder].tolist() for space in new}
    return PendingObject(entry.case.id, properties, vectors)


async def _page(collection: CollectionAsync[Any, None], last: str) -> list[tuple[str, Any]]:
    answer = await collection.query.fetch_objects(limit=_READ_AT_ONCE, after=last, return_properties=CASE)
    return [(str(one.uuid), case_of(one.properties)) for one in answer.objects]


async def _filled(collection: CollectionAsync[Any, None]) -> list[Space]:
    spaces = spaces_of(await collection.config.get())
    counts = [await count_of(collection, has(space)) for space in spaces]
    return [space for space, number in zip(spaces, counts, strict=True) if number]


async def _tasks(collection: CollectionAsync[Any, None]) -> dict[str, int]:
    from weaviate.classes.aggregate import GroupByAggregate

    answer = await collection.aggregate.over_all(group_by=GroupByAggregate(prop="task"), total_count=True)
    return {str(group.grouped_by.value): group.total_count or 0 for group in _sorted(answer.groups)}


def _sorted(groups: Iterable[Any]) -> list[Any]:
    return sorted(groups, key=lambda group: str(group.grouped_by.value))


async def _delete(collection: CollectionAsync[Any, None], ids: Sequence[str]) -> int:
    from weaviate.classes.query import Filter as By

    answer = await collection.data.delete_many(where=By.by_id().contains_any(ids))
    if answer.failed:
        raise StoreError(f"{answer.failed} of {answer.matches} cases could not be deleted; try again")
    return answer.successful


async def _thumbnail(collection: CollectionAsync[Any, None], id: str) -> bytes | None:
    one = await collection.query.fetch_object_by_id(id, return_properties=["thumbnail"])
    return thumbnail_of(one.properties) if one else None
