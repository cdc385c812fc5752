from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from gsco.case import SimilarCase
from gsco.errors import StoreError
from gsco.tools.stores.protocol import Entry, Filter
from gsco.tools.stores.weaviate import WeaviateStore
from gsco.tools.stores.weaviate.address import Host
from gsco.tools.stores.weaviate.connection import Connection
from gsco.tools.stores.weaviate.failures import passing
from gsco.tools.stores.weaviate.search import Searcher

from .conformance import case, entries, unit
from .servers import Server, missing, running

pytestmark = [pytest.mark.weaviate, pytest.mark.skipif(bool(missing()), reason=missing())]

T = TypeVar("T")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("failing")) as server:
        yield server


@pytest.fixture
def address(server: Server, request: pytest.FixtureRequest) -> str:
    return server.address(f"Case{abs(hash(request.node.name))}", "&timeout=3")


@pytest.fixture
def filled(address: str) -> Iterator[WeaviateStore]:
    with WeaviateStore(address) as store:
        store.add(entries(unit(20)))
        assert _finds(store)
        yield store


def _finds(store: WeaviateStore) -> bool:
    return store.search(unit(1), "one", 1)[0][0].id == case(0).id


def _soon(action: Callable[[], T], seconds: float = 60) -> T:
    """What an action returns once it does not fail any more."""
    end = time.monotonic() + seconds
    while True:
        try:
            return action()
        except StoreError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def test_nobody_is_there(tmp_path: Path) -> None:
    nobody = Server(tmp_path)
    with WeaviateStore(nobody.address("Cases", "&timeout=3")) as store:
        for _ in range(2):
            with pytest.raises(StoreError, match=r"127\.0\.0\.1:\d+ cannot be reached; start it"):
                store.count()


def test_a_server_that_comes_later_is_used_then(tmp_path: Path) -> None:
    with running(tmp_path / "first") as server:
        server.stop()
        with WeaviateStore(server.address("Late", "&timeout=3")) as store:
            with pytest.raises(StoreError, match="cannot be reached"):
                store.count()
            server.start()
            assert _soon(lambda: store.add(entries(unit(5)))) == 5
            assert _finds(store)


def test_a_server_that_was_away_is_used_again(server: Server, filled: WeaviateStore) -> None:
    server.kill()
    with pytest.raises(StoreError, match="cannot be reached"):
        filled.search(unit(1), "one", 1)
    with pytest.raises(StoreError, match="cannot be reached"):
        filled.add(entries(unit(1, seed=9)))
    server.start()
    assert _soon(lambda: _finds(filled))
    assert filled.count() == 20, "what was acknowledged is there after the power cut"


@pytest.mark.parametrize("number", [20, 1500], ids=["one request", "a stream"])
def test_what_was_added_is_found_after_a_power_cut(server: Server, address: str, number: int) -> None:
    vectors = unit(number)
    with WeaviateStore(address) as store:
        store.add(entries(vectors))
        server.kill()
        server.start()
        assert len(_soon(lambda: store.search(vectors[:1], "one", number))[0]) == number


def test_a_server_that_goes_away_while_cases_are_written(server: Server, address: str) -> None:
    """A power cut between two streams: the error is ours, and the same call again adds what is missing."""
    vectors = unit(6000)
    given = threading.Event()

    def slowly() -> Iterator[Entry]:
        for number, one in enumerate(entries(vectors)):
            if number == 5000:
                given.set()
            yield one

    with WeaviateStore(address) as store:
        killer = threading.Thread(target=lambda: given.wait(60) and server.kill())
        killer.start()
        with pytest.raises(StoreError):
            store.add(slowly())
        killer.join()
        server.start()
        before = _soon(store.count)
        assert 0 < before < 6000
        assert store.add(entries(vectors)) == 6000 - before
        assert store.count() == 6000 and _finds(store)


def test_an_index_that_lost_its_vectors_is_not_taken_for_an_empty_bank(
    filled: WeaviateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[list[SimilarCase]] = [[]]
    found = Searcher._found

    async def losing(self: Searcher, *asked: Any) -> list[SimilarCase]:
        return answers.pop() if answers else await found(self, *asked)

    monkeypatch.setattr(Searcher, "_found", losing)
    assert _finds(filled), "a server that was only a moment late is asked again"
    assert filled.search(unit(1), "one", 1, where=Filter(("nothing of this",))) == [[]]
    answers.extend([] for _ in range(1000))
    with pytest.raises(StoreError, match=r"finds none of 20 cases .*`gsco store move --searches 0`"):
        filled.search(unit(1), "one", 1)


def test_another_host_is_asked_where_one_has_lost_its_index(
    server: Server, address: str, filled: WeaviateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    found, client = Searcher._found, Connection._client

    async def noted(self: Connection, host: Host) -> Any:
        asked.append(self.address.hosts.index(host))
        return await client(self, host)

    async def losing(self: Searcher, *query: Any) -> list[SimilarCase]:
        return [] if asked[-1] == 0 else await found(self, *query)

    monkeypatch.setattr(Connection, "_client", noted)
    monkeypatch.setattr(Searcher, "_found", losing)
    # The same server under two names stands for two nodes.
    both = address.replace(server.place, f"{server.place},{server.place.replace('127.0.0.1', 'localhost')}")
    both = both.replace(f"grpc={server.grpc}", f"grpc={server.grpc},{server.grpc}")
    with WeaviateStore(both, readonly=True) as store:
        assert _finds(store)
        assert asked[0] == 0 and asked[-1] == 1
        asked.clear()
        assert _finds(store) and set(asked) == {1}, "it is asked first from then on"


@pytest.mark.parametrize(
    ("said", "gone"),
    [
        ("get property by name has_d0b4 for class Cases: no such prop with name 'has_d0b4' found", True),
        ("failed to execute query: leader not found", True),
        ("local index: shard is not ready", True),
        ("query vector has length 3 but the index holds 4", False),
    ],
)
def test_a_node_that_is_behind_its_cluster_is_asked_again(said: str, gone: bool) -> None:
    assert passing(RuntimeError(said)) is gone


def test_a_server_that_hangs_is_not_waited_for(server: Server, filled: WeaviateStore) -> None:
    server.halt()
    try:
        with pytest.raises(StoreError, match="does not answer within 3 s; it is overloaded or hangs"):
            filled.search(unit(1), "one", 1)
        started = time.monotonic()
        with pytest.raises(StoreError, match="does not answer"):
            filled.search(unit(1), "one", 1)
        assert time.monotonic() - started < 2.5, "it is not asked again at once"
    finally:
        server.go_on()
    assert _soon(lambda: _finds(filled))


def test_a_wrong_grpc_port_is_named(server: Server, address: str) -> None:
    """Whether nothing is there, or something that speaks another protocol."""
    with WeaviateStore(address) as store:
        store.add(entries(unit(3)))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and nothing listens there
        closed = nobody.getsockname()[1]
    for wrong in (closed, server.profiling):
        moved = address.replace(f"grpc={server.grpc}", f"grpc={wrong}")
        assert moved != address
        with WeaviateStore(moved) as store, pytest.raises(StoreError) as caught:
            store.search(unit(1), "one", 1)
        assert f"not at its gRPC port {wrong}; correct grpc=" in str(caught.value)
        assert "overloaded" not in str(caught.value)


def test_after_a_hang_it_is_asked_again_at_once(server: Server, filled: WeaviateStore) -> None:
    server.halt()
    try:
        with pytest.raises(StoreError, match="overloaded or hangs"):
            filled.search(unit(1), "one", 1)
        failure = filled._connection._failure
        assert failure is not None
        _, until = failure
    finally:
        server.go_on()
    assert _soon(lambda: _finds(filled))
    assert time.monotonic() < until, "it was asked before the pause was over"


def test_another_host_is_asked(server: Server, address: str, filled: WeaviateStore, tmp_path: Path) -> None:
    nobody = Server(tmp_path)
    both = address.replace(server.place, f"{nobody.place},{server.place}").replace(
        f"grpc={server.grpc}", f"grpc={nobody.grpc},{server.grpc}"
    )
    with WeaviateStore(both, readonly=True) as store:
        assert _finds(store)
        assert store.count() == 20


def test_a_read_only_store_is_searched_and_says_so_where_it_is_written(
    server: Server, filled: WeaviateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gsco.tools.stores.weaviate import writer

    monkeypatch.setattr(writer, "_WAIT", 0.01)
    _set_shards(server, filled, "READONLY")
    assert _finds(filled)
    with pytest.raises(StoreError, match=r"3 of 3 cases could not be written; it is read-only"):
        filled.add(entries(unit(3), task="lung"))
    _set_shards(server, filled, "READY")
    assert filled.add(entries(unit(3), task="lung")) == 3


def test_the_wrong_collection(server: Server, address: str) -> None:
    from weaviate.classes.config import DataType, Property

    with _client(server) as client:
        client.collections.create("Articles", description="of a newspaper")
        client.collections.create("Newer", description="gsco case bank, schema 99")
        wrong = [Property(name="sha256", data_type=DataType.INT)]
        client.collections.create("Other", description="gsco case bank, schema 1", properties=wrong)
    for name, message in (
        ("Articles", "not a case bank; name another one"),
        ("Newer", r"newer gsco \(schema 99, this one knows 1\); update gsco"),
        ("Other", "wrong schema: property sha256 holds int, not text"),
        ("Nothing", "there is no case bank at .*; build one with `gsco store build`"),
    ):
        with (
            WeaviateStore(server.address(name), readonly=True) as store,
            pytest.raises(StoreError, match=message),
        ):
            store.count()


def test_an_older_collection_is_brought_up_to_date(server: Server, address: str) -> None:
    from weaviate.classes.config import Property

    with WeaviateStore(address) as store:
        store.add(entries(unit(5)))
    name = store.address.collection
    with _client(server) as client:
        collection = client.collections.use(name)
        collection.config.update(description="gsco case bank, schema 0")
        assert isinstance(Property, type)
    with (
        WeaviateStore(address, readonly=True) as reader,
        pytest.raises(StoreError, match=r"older gsco \(schema 0\)"),
    ):
        reader.count()
    with WeaviateStore(address) as writer:
        assert writer.count() == 5
    with WeaviateStore(address, readonly=True) as reader:
        assert _finds(reader)


def test_a_collection_that_is_removed_while_it_is_open(server: Server, filled: WeaviateStore) -> None:
    with _client(server) as client:
        client.collections.delete(filled.address.collection)
    with pytest.raises(StoreError):
        filled.search(unit(1), "one", 1)


def test_a_node_that_waits_for_its_cluster_is_not_ready(tmp_path: Path) -> None:
    alone = Server(tmp_path, RAFT_JOIN="node1,node2,node3", RAFT_BOOTSTRAP_EXPECT="3")
    alone.start(wait=False)
    try:
        time.sleep(3)
        with (
            WeaviateStore(alone.address("Cases", "&timeout=3")) as store,
            pytest.raises(StoreError, match=r"not ready yet|cannot be reached"),
        ):
            store.count()
    finally:
        alone.kill()


def test_a_server_short_of_memory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gsco.tools.stores.weaviate import writer

    monkeypatch.setattr(writer, "_WAIT", 0.01)
    with running(tmp_path) as server, WeaviateStore(server.address("Short", "&timeout=20")) as store:
        store.add(entries(unit(5)))
        server.stop()
        server._environment |= {"GOMEMLIMIT": "24MiB"}
        server.start()
        assert _soon(lambda: _finds(store))
        with pytest.raises(StoreError, match="has too little memory; give it more"):
            for part in range(20):
                store.add(entries(unit(5), task=f"task{part}"))
                time.sleep(0.5)
        assert _finds(store)


def test_a_store_of_before_a_fork_says_so(filled: WeaviateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getpid", lambda: 1)
    with pytest.raises(StoreError, match="opened before fork"):
        filled.count()


def _set_shards(server: Server, store: WeaviateStore, status: str) -> None:
    with _client(server) as client:
        client.collections.use(store.address.collection).config.update_shards(status)


def _client(server: Server):
    import weaviate

    return weaviate.connect_to_local("127.0.0.1", server.port, server.grpc, skip_init_checks=True)
