from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from gsco.errors import StoreError
from gsco.tools.stores.protocol import Exclusion, Filter
from gsco.tools.stores.weaviate import WeaviateStore

from .conformance import case, entries, entry, unit
from .servers import Server, cluster, missing

pytestmark = [
    pytest.mark.weaviate,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

OPTIONS = "&replication=3&timeout=10"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


def _address(nodes: list[Server], collection: str, options: str = OPTIONS) -> str:
    places = ",".join(node.place for node in nodes)
    ports = ",".join(str(node.grpc) for node in nodes)
    return f"weaviate://{places}/{collection}?grpc={ports}{options}"


def test_a_killed_node_loses_no_acknowledged_case_and_stops_no_search(nodes: list[Server]) -> None:
    total, step = 6000, 50
    vectors = unit(total)
    store = WeaviateStore(_address(nodes, "Killed"))
    acknowledged: list[int] = []
    refused: list[str] = []
    searched, failed = [0], list[str]()
    done = threading.Event()

    def write() -> None:
        for start in range(0, total, step):
            part = range(start, start + step)
            while not done.is_set():
                try:
                    store.add([entry(n, vectors[n]) for n in part])
                except StoreError as error:
                    refused.append(str(error))
                    continue
                acknowledged.extend(part)
                break
        done.set()

    def search() -> None:
        # The first case is there from the beginning and must be found all the time.
        with WeaviateStore(_address(nodes, "Killed"), readonly=True) as own:
            while not done.is_set():
                try:
                    (found,) = own.search(vectors[:1], "one", 1)
                    if [s.id for s in found] != [case(0).id]:
                        failed.append(f"found {found}")
                except StoreError as error:
                    failed.append(str(error))
                searched[0] += 1

    store.add([entry(0, vectors[0])])
    threads = [threading.Thread(target=write, daemon=True), threading.Thread(target=search, daemon=True)]
    for thread in threads:
        thread.start()
    try:
        _until(lambda: len(acknowledged) > 1000)
        nodes[0].kill()
        before, seen = len(acknowledged), searched[0]
        _until(lambda: len(acknowledged) > before + 1000 and searched[0] > seen + 20)
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    assert failed == [], f"{len(failed)} of {searched[0]} searches failed"
    kept = list(acknowledged)
    print(
        f"{len(kept)} acknowledged, {before} before the kill; {searched[0]} searches, {len(refused)} refusals"
    )
    assert _holds(store, kept), "with one node gone every acknowledged case is there"

    # The node comes back with cases missing, and another goes before it caught up by itself. Two of three
    # copies acknowledged each case, so the two that are left have it.
    nodes[0].start()
    nodes[1].kill()
    _until(lambda: _holds(store, kept))
    ids = [entry.case.id for entry in store.scan()]
    assert ids == sorted(ids)
    assert {case(n).id for n in kept} <= set(ids)
    nodes[1].start()
    store.close()


def test_tenants_do_not_see_each_other(nodes: list[Server]) -> None:
    one, two = (
        WeaviateStore(_address(nodes, "Divided", f"{OPTIONS}&tenant={name}")) for name in ("site_a", "site_b")
    )
    vectors = unit(6)
    assert one.add(entries(vectors[:4])) == 4
    assert two.add(entries(vectors)) == 6
    assert (one.count(), two.count()) == (4, 6)
    assert len(one.search(vectors[:1], "one", 10)[0]) == 4
    two.delete([case(0).id])
    assert one.search(vectors[:1], "one", 1)[0][0].id == case(0).id
    with (
        WeaviateStore(_address(nodes, "Divided", f"{OPTIONS}&tenant=site_c"), readonly=True) as other,
        pytest.raises(StoreError, match="no tenant site_c"),
    ):
        other.count()
    with (
        WeaviateStore(_address(nodes, "Divided", OPTIONS), readonly=True) as undivided,
        pytest.raises(StoreError, match="divided by tenants; name one"),
    ):
        undivided.count()
    one.close()
    two.close()


def test_another_number_of_copies_is_refused(nodes: list[Server]) -> None:
    with WeaviateStore(_address(nodes, "Thrice")) as store:
        store.add(entries(unit(3)))
    with (
        WeaviateStore(_address(nodes, "Thrice", "&replication=2")) as store,
        pytest.raises(StoreError, match="keeps 3 copies of each case, not 2"),
    ):
        store.count()


@pytest.mark.parametrize("consistency", ["one", "quorum", "all"])
def test_every_consistency_reads_and_writes(nodes: list[Server], consistency: str) -> None:
    with WeaviateStore(
        _address(nodes, f"With{consistency}", f"{OPTIONS}&consistency={consistency}")
    ) as store:
        vectors = unit(20)
        assert store.add(entries(vectors)) == 20
        _until(lambda: store.count() == 20)
        exclude = [Exclusion(frozenset([case(0).sha256]))]
        _until(
            lambda: (
                len(store.search(vectors[:1], "one", 30, where=Filter(("chest",)), exclude=exclude)[0]) == 19
            )
        )


def _holds(store: WeaviateStore, numbers: list[int]) -> bool:
    try:
        wanted = [case(n).id for n in numbers]
        return len(store.get(wanted)) == len(set(wanted))
    except StoreError:
        return False


def _until(condition) -> None:
    """Wait for what is asserted; only the test's own time limit ends it."""
    while not condition():
        time.sleep(0.1)
