"""What an address asks of Weaviate beyond the protocol: kinds of index, compression, tenants, words."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from gsco.case import SimilarCase
from gsco.errors import StoreError
from gsco.tools.stores.protocol import Filter
from gsco.tools.stores.weaviate import WeaviateStore, schema, writer
from gsco.tools.stores.weaviate import store as store_module

from .conformance import case, entries, unit
from .servers import Server, missing, running

pytestmark = [pytest.mark.weaviate, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("options"), ASYNC_INDEXING="true") as server:
        yield server


@pytest.fixture
def collection(request: pytest.FixtureRequest) -> str:
    return f"Options{abs(hash(request.node.name))}"


def index_of(server: Server, store: WeaviateStore, kind: str = "one") -> object:
    """How the server says that it indexes an encoder's vectors."""
    import weaviate

    with weaviate.connect_to_local("127.0.0.1", server.port, server.grpc, skip_init_checks=True) as client:
        config = client.collections.use(store.address.collection).config.get()
        vector = store._spaces[kind].vector
        assert config.vector_config is not None
        return config.vector_config[vector].vector_index_config


def ids(found: list[SimilarCase]) -> list[str]:
    return [one.id for one in found]


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("options", "kind", "quantizer"),
    [
        ("", "HNSW", None),
        ("&quantisation=rq&ef=64&connections=16&ef_construction=100", "HNSW", "RQ"),
        ("&quantisation=sq", "HNSW", "SQ"),
        ("&quantisation=bq", "HNSW", "BQ"),
        ("&quantisation=pq", "HNSW", "PQ"),
        ("&index=flat", "FLAT", None),
        ("&index=flat&quantisation=bq", "FLAT", "BQ"),
        ("&index=dynamic", "DYNAMIC", None),
    ],
)
def test_every_index_is_made_as_asked_and_finds_what_is_near(
    server: Server, collection: str, options: str, kind: str, quantizer: str | None
) -> None:
    vectors = unit(60, width=32)
    with WeaviateStore(server.address(collection, options)) as store:
        assert store.add(entries(vectors)) == 60
        until(
            lambda: [ids(found) for found in store.search(vectors, "one", 1)] == [[_id(n)] for n in range(60)]
        )
        index = index_of(server, store)
    assert type(index).__name__ == f"_VectorIndexConfig{kind.capitalize() if kind != 'HNSW' else kind}"
    own = getattr(index, "quantizer", None)
    assert (type(own).__name__ if own else None) == (f"_{quantizer}Config" if quantizer else None)
    if "ef=64" in options:
        assert (index.ef, index.max_connections, index.ef_construction) == (64, 16, 100)  # pyright: ignore


def test_a_bank_is_compressed_once_it_is_large(
    server: Server, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "COMPRESSED_FROM", 1500)
    monkeypatch.setattr(store_module, "EXACT_BELOW", 100)
    vectors = unit(2200, width=64)
    with WeaviateStore(server.address(collection, "&timeout=30")) as store:
        store.add(entries(vectors[:1000]))
        assert getattr(index_of(server, store), "quantizer", None) is None
        # While it compresses, the server takes no writes; none may be lost for that.
        assert store.add(entries(vectors)) == 1200
        assert type(getattr(index_of(server, store), "quantizer", None)).__name__ == "_RQConfig"
        assert store.add(entries(vectors[:5], task="lung")) == 5
        assert store.count() == 2205

        def recall() -> float:
            hits = 0
            for n in range(0, 100, 10):
                (found,) = store.search(vectors[n : n + 1], "one", 10, where=Filter(("chest",)))
                nearest = np.argsort(-(vectors @ vectors[n]), kind="stable")[:10]
                hits += len({one.id for one in found} & {_id(m) for m in nearest.tolist()})
            return hits / 100

        until(lambda: recall() >= 0.95)


def test_each_tenant_has_its_own(server: Server, collection: str) -> None:
    vectors = unit(6)
    with (
        WeaviateStore(server.address(collection, "&tenant=site_a")) as one,
        WeaviateStore(server.address(collection, "&tenant=site_b")) as two,
    ):
        assert (one.add(entries(vectors[:4])), two.add(entries(vectors))) == (4, 6)
        assert (one.count(), two.count()) == (4, 6)
        two.delete([_id(0)])
        until(lambda: ids(one.search(vectors[:1], "one", 1)[0]) == [_id(0)])
    for options, message in (("&tenant=site_c", "no tenant site_c"), ("", "divided by tenants; name one")):
        with (
            WeaviateStore(server.address(collection, options), readonly=True) as other,
            pytest.raises(StoreError, match=message),
        ):
            other.count()


def test_what_is_refused_is_written_again_until_it_is_there(
    server: Server, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import weaviate

    monkeypatch.setattr(writer, "TRIES", 40)
    monkeypatch.setattr(writer, "_WAIT", 0.0)
    refused: list[int] = []
    insert = writer._insert

    async def counted(*arguments: object) -> dict[str, str]:
        failures = await insert(*arguments)  # pyright: ignore
        refused.append(len(failures))
        await asyncio.sleep(0.1)
        return failures

    monkeypatch.setattr(writer, "_insert", counted)
    with (
        WeaviateStore(server.address(collection, "&timeout=20")) as store,
        weaviate.connect_to_local("127.0.0.1", server.port, server.grpc, skip_init_checks=True) as client,
    ):
        store.add(entries(unit(5)))
        shards = client.collections.use(store.address.collection).config
        shards.update_shards("READONLY")
        again = threading.Timer(1.0, lambda: shards.update_shards("READY"))
        again.start()
        assert store.add(entries(unit(9), task="lung")) == 9
        again.join()
        assert store.tasks() == {"chest": 5, "lung": 9}
    assert 9 in refused, "each of them was refused at first"
    assert refused[-1] == 0


def test_properties_that_an_older_version_lacked_are_added(server: Server, collection: str) -> None:
    import weaviate

    address = server.address(collection)
    with WeaviateStore(address) as made:
        made.add([])
        made.count()
    with weaviate.connect_to_local("127.0.0.1", server.port, server.grpc, skip_init_checks=True) as client:
        from weaviate.classes.config import Configure, DataType, Property

        client.collections.delete(made.address.collection)
        client.collections.create(
            made.address.collection,
            description="gsco case bank, schema 1",
            properties=[Property(name="sha256", data_type=DataType.TEXT)],
            vector_config=[Configure.Vectors.self_provided(name="none")],
        )
    with WeaviateStore(address) as store:
        assert store.add(entries(unit(3))) == 3
        assert store.tasks() == {"chest": 3}
        assert next(iter(store.scan())).case.task == "chest"


def _id(n: int) -> str:
    return case(n).id
