from __future__ import annotations

import numpy as np
import pytest
from gsco.tools.stores import exact
from gsco.tools.stores.exact import Ban, ExactIndex

from .conformance import unit


def _ids(numbers: range) -> list[str]:
    return [f"00000000-0000-0000-0000-{number:012d}" for number in numbers]


def _index(vectors: np.ndarray, first: int = 0) -> ExactIndex:
    index = ExactIndex(vectors.shape[1])
    rows = range(first, first + len(vectors))
    index.append(rows, _ids(rows), [("t", "")] * len(vectors), vectors)
    return index


def test_a_view_stays_while_the_index_grows() -> None:
    vectors = unit(50)
    index = _index(vectors[:10])
    view = index.view()
    before = view.search(vectors[:3], 20, None, ())
    index.append(range(10, 50), _ids(range(10, 50)), [("u", "")] * 40, vectors[10:])
    assert view.search(vectors[:3], 20, None, ()) == before
    assert len(index.view().search(vectors[:1], 100, None, ())[0]) == 50
    assert len(index.view().search(vectors[:1], 100, [("u", "")], ())[0]) == 40


def test_reserving_changes_nothing() -> None:
    vectors = unit(20)
    index = _index(vectors[:5])
    index.reserve(100)
    index.append(range(5, 20), _ids(range(5, 20)), [("t", "")] * 15, vectors[5:])
    assert index.view().search(vectors, 3, None, ()) == _index(vectors).view().search(vectors, 3, None, ())


def test_blocks_of_queries_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = unit(90), unit(40, seed=1)
    bans = [Ban(np.arange(n, dtype=np.int64), 0.3) for n in range(40)]
    whole = _index(vectors).view().search(queries, 5, None, bans)
    monkeypatch.setattr(exact, "_SCORES_AT_ONCE", 200)
    monkeypatch.setattr(exact, "_RESCORED_AT_ONCE", 3)
    assert _index(vectors).view().search(queries, 5, None, bans) == whole


def test_the_order_of_rows_does_not_show() -> None:
    vectors = np.concatenate([unit(40), unit(40), unit(40)])
    shuffled = np.random.default_rng(0).permutation(120)
    plain, mixed = ExactIndex(32), ExactIndex(32)
    ids = _ids(range(120))
    plain.append(range(120), ids, [("t", "")] * 120, vectors)
    mixed.append(shuffled.tolist(), [ids[n] for n in shuffled], [("t", "")] * 120, vectors[shuffled])
    queries = unit(30, seed=2)
    assert plain.view().search(queries, 10, None, ()) == mixed.view().search(queries, 10, None, ())


def test_similarities_that_single_precision_confuses_are_told_apart() -> None:
    queries = unit(4, 1280)
    noise = np.random.default_rng(1).normal(scale=1e-4, size=(300, 1280)).astype(np.float32)
    for query in queries:
        vectors = query + noise
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        truth = np.argsort(-(vectors.astype(np.float64) @ query.astype(np.float64)))
        (hits,) = _index(vectors).view().search(query[None], 5, None, ())
        assert [hit.key for hit in hits] == truth[:5].tolist()


def test_a_ceiling_is_exact() -> None:
    vectors = unit(2000, 512)
    query = vectors[:1]
    exact = (vectors.astype(np.float64) * query[0].astype(np.float64)).sum(axis=1)
    for ceiling in np.sort(exact)[-40:-1]:
        (hits,) = _index(vectors).view().search(query, 3, None, [Ban(ceiling=float(ceiling))])
        assert hits[0].similarity == ceiling


def test_rows_just_above_a_ceiling_take_no_places() -> None:
    cosines = np.array([0.9 + 5e-6] * 5 + [0.8, 0.7, 0.6])
    vectors = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)
    (hits,) = _index(vectors).view().search(np.array([[1, 0]], np.float32), 3, None, [Ban(ceiling=0.9)])
    assert [hit.key for hit in hits] == [5, 6, 7]


def test_everything_may_be_banned() -> None:
    vectors = unit(5)
    view = _index(vectors).view()
    assert view.search(vectors[:1], 3, None, [Ban(np.arange(5, dtype=np.int64))]) == [[]]
    assert view.search(vectors[:1], 3, None, [Ban(ceiling=-1.1)]) == [[]]
    assert view.search(vectors[:1], 3, [("unknown", "")], ()) == [[]]
