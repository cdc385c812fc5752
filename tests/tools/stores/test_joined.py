"""Several case stores searched as one."""

from __future__ import annotations

from pathlib import Path

import pytest
from gsco.errors import StoreError, VectorMismatch
from gsco.tools.stores.embedded import EmbeddedStore
from gsco.tools.stores.joined import JoinedStore
from gsco.tools.stores.protocol import CaseStore, Exclusion, Filter

from .conformance import case, entries, entry, unit


@pytest.fixture
def joined(tmp_path: Path) -> JoinedStore:
    """A base of ten chest cases and two of an old skin, and a store of five skin cases."""
    base, skin = EmbeddedStore(tmp_path / "base.sqlite"), EmbeddedStore(tmp_path / "skin.sqlite")
    base.add([*entries(unit(10)), *(entry(50 + n, unit(2, seed=4)[n], task="skin") for n in range(2))])
    skin.add([entry(100 + n, unit(5, seed=1)[n], task="skin") for n in range(5)])
    return JoinedStore(base, {"skin": skin})


def test_it_is_a_case_store(joined: JoinedStore) -> None:
    assert isinstance(joined, CaseStore)


def test_each_task_keeps_its_own_cases(joined: JoinedStore) -> None:
    for task, vectors, number in (("chest", unit(10), 3), ("skin", unit(5, seed=1), 2)):
        found = joined.search(vectors[number][None], "one", 3, where=Filter((task,)))[0]
        assert {one.task for one in found} == {task}
        assert found[0].similarity == pytest.approx(1, abs=1e-3)
    assert joined.tasks() == {"chest": 10, "skin": 5}
    assert (joined.count(), joined.count(Filter(("skin",)))) == (15, 5)


def test_a_search_over_all_tasks_is_one_over_all_stores(joined: JoinedStore) -> None:
    found = joined.search(unit(1, seed=9), "one", 15)[0]
    assert len(found) == 15
    similarities = [one.similarity for one in found]
    assert similarities == sorted(similarities, reverse=True)
    # The cases of the same task in the base are not among them.
    assert case(50, task="skin").id not in {one.id for one in found}
    excluded = joined.search(
        unit(1, seed=9), "one", 15, exclude=[Exclusion(ids=frozenset([found[0].id, found[1].id]))]
    )[0]
    assert [one.id for one in excluded] == [one.id for one in found[2:]]


def test_scan_and_get(joined: JoinedStore) -> None:
    ids = [one.case.id for one in joined.scan()]
    assert ids == sorted(ids)
    assert len(ids) == 15
    assert set(joined.get([*ids[:4], "none"])) == set(ids[:4])


def test_an_encoder_that_only_one_has(joined: JoinedStore, tmp_path: Path) -> None:
    own = EmbeddedStore(tmp_path / "own.sqlite")
    own.add([entry(7, unit(1, seed=3)[0], encoder="other", task="eye")])
    both = JoinedStore(joined, {"eye": own})
    assert [one.task for one in both.search(unit(1, seed=3), "other", 5)[0]] == ["eye"]
    assert both.search(unit(1), "one", 1)[0][0].task == "chest"
    with pytest.raises(VectorMismatch, match="no vectors of encoder 'none'"):
        both.search(unit(1), "none", 1)


def test_it_is_only_read(joined: JoinedStore) -> None:
    with pytest.raises(StoreError, match="read-only"):
        joined.add(entries(unit(1)))
    with pytest.raises(StoreError, match="read-only"):
        joined.delete([])
