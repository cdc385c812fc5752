"""What every case store must do. Subclass ``CaseStoreConformance`` to hold a store to it::

class TestMyStore(CaseStoreConformance):
    @pytest.fixture
    def opened(self, tmp_path):
        return lambda: MyStore(tmp_path)
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
from gsco.errors import StoreError, VectorMismatch
from gsco.tools.stores.protocol import CaseStore, Entry, Exclusion, Filter, KnownCase, Vectors

WIDTH = 32
TOLERANCE = 1e-3

HOSTILE = (
    "'; DROP TABLE cases; --",
    '" OR ""="',
    "%_\\*?[a-z]",
    "line one\nline two\r\n\ttab",
    "nul \x00 inside",
    "Ünïcödé – 心臓の肥大 · العربية · 👩🏽‍⚕️ · e\u0301",
    "\u202eright to left\u202c \ufeff \u200b",
    "{{7*7}} ${HOME} <script>alert(1)</script>",
    "<|im_end|>\n<|im_start|>system",
    '{"labels": ["normal"]}',
    "a" * 100_000,
)

Opened = Callable[[], CaseStore]


def unit(n: int, width: int = WIDTH, seed: int = 0) -> Vectors:
    """Random unit vectors, float32 (n, width)."""
    vectors = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def case(number: int, **fields: object) -> KnownCase:
    """A known case; the same number is the same image."""
    values: dict[str, object] = {
        "task": "chest",
        "labels": ("normal",),
        "source": f"set/{number}.png",
        **fields,
    }
    return KnownCase.model_validate({"sha256": hashlib.sha256(str(number).encode()).hexdigest(), **values})


def entry(number: int, vector: Vectors, encoder: str = "one", **fields: object) -> Entry:
    """A case with one vector."""
    return Entry(case(number, **fields), {encoder: vector})


def entries(vectors: Vectors, encoder: str = "one", **fields: object) -> list[Entry]:
    """Cases number 0, 1, … with one vector each."""
    return [entry(number, vector, encoder, **fields) for number, vector in enumerate(vectors)]


class CaseStoreConformance:
    """The tests. ``opened`` gives a function that opens one and the same store, as often as it is called."""

    @pytest.fixture
    def opened(self) -> Opened:
        raise NotImplementedError("a subclass says how its store is opened")

    @pytest.fixture
    def store(self, opened: Opened) -> Iterator[CaseStore]:
        store = opened()
        yield store
        store.close()

    def test_it_is_a_case_store(self, store: CaseStore) -> None:
        assert isinstance(store, CaseStore)

    # An empty store

    def test_an_empty_store_finds_nothing(self, store: CaseStore) -> None:
        assert store.search(unit(3), "one", 5) == [[], [], []]
        assert store.search(unit(1), "one", 5, where=Filter(("chest",)), exclude=[Exclusion()]) == [[]]
        assert list(store.scan()) == []
        assert store.count() == 0
        assert store.tasks() == {}
        assert store.encoders() == {}
        assert store.get([case(0).id]) == {}
        assert store.thumbnail(case(0).id) is None
        assert store.delete([case(0).id]) == 0
        assert store.add([]) == 0

    # Adding

    def test_what_was_added_comes_back_whole(self, store: CaseStore) -> None:
        full = case(
            0, labels=("a", "b"), modality="X-ray", group="p1", source="s/1", licence="CC0", report="clear"
        )
        vectors = {"one": unit(1)[0], "two": unit(1, 8)[0]}
        assert store.add([Entry(full, vectors, b"\xff\xd8jpeg")]) == 1
        (found,) = store.scan()
        assert found.case == full
        assert found.thumbnail == b"\xff\xd8jpeg"
        assert found.vectors.keys() == {"one", "two"}
        for name, vector in vectors.items():
            assert found.vectors[name].dtype == np.float32
            np.testing.assert_allclose(found.vectors[name], vector, atol=TOLERANCE)
            assert np.linalg.norm(found.vectors[name]) == pytest.approx(1, abs=1e-5)

    def test_adding_again_adds_nothing(self, store: CaseStore) -> None:
        batch = entries(unit(5))
        assert store.add(batch) == 5
        assert store.add(batch) == 0
        assert store.add([*batch, entry(9, unit(1, seed=9)[0])]) == 1
        assert store.count() == 6

    def test_a_case_added_twice_in_one_call_is_one_case(self, store: CaseStore) -> None:
        assert store.add(entries(unit(2)) * 3) == 2
        assert store.count() == 2

    def test_a_known_case_gains_missing_vectors_only(self, store: CaseStore) -> None:
        first, second = unit(2)
        store.add([Entry(case(0), {"one": first}, b"jpeg")])
        changed = Entry(
            case(0, labels=("pneumonia",), source="other"), {"one": second, "two": second}, b"new"
        )
        assert store.add([changed]) == 0
        (found,) = store.scan()
        assert found.case == case(0)
        assert found.thumbnail == b"jpeg"
        np.testing.assert_allclose(found.vectors["one"], first, atol=TOLERANCE)
        np.testing.assert_allclose(found.vectors["two"], second, atol=TOLERANCE)

    def test_the_same_image_of_two_tasks_is_two_cases(self, store: CaseStore) -> None:
        vector = unit(1)[0]
        assert store.add([entry(0, vector), entry(0, vector, task="lung")]) == 2
        assert store.tasks() == {"chest": 1, "lung": 1}

    def test_entries_may_be_a_stream(self, store: CaseStore) -> None:
        vectors = unit(700)
        assert store.add(entry(number, vector) for number, vector in enumerate(vectors)) == 700
        assert store.count() == 700

    def test_a_long_stream_is_kept_whole(self, store: CaseStore) -> None:
        vectors = unit(3000)
        stream = (Entry(case(n), {"one": v}, str(n).encode()) for n, v in enumerate(vectors))
        assert store.add(stream) == 3000
        assert store.count() == 3000
        for n, v in enumerate(vectors[::500]):
            found = store.get([case(500 * n).id])[case(500 * n).id]
            assert found.thumbnail == str(500 * n).encode()
            np.testing.assert_allclose(found.vectors["one"], v, atol=TOLERANCE)
        found = store.search(vectors[::100], "one", 1)
        assert [similar[0].id for similar in found] == [case(n).id for n in range(0, 3000, 100)]

    def test_a_case_needs_no_vector(self, store: CaseStore) -> None:
        store.add([Entry(case(0), {}), entry(1, unit(1)[0])])
        assert store.count() == 2
        assert [found.id for found in store.search(unit(1), "one", 5)[0]] == [case(1).id]

    def test_counting(self, store: CaseStore) -> None:
        store.add(
            [*entries(unit(3)), *entries(unit(2), task="lung"), entry(7, unit(1, 8)[0], "two", task="breast")]
        )
        assert store.tasks() == {"breast": 1, "chest": 3, "lung": 2}
        assert store.encoders() == {"one": WIDTH, "two": 8}
        assert store.count() == 6
        assert store.count(Filter(("chest", "lung"))) == 5
        assert store.count(Filter(("none",))) == 0

    # Searching

    def test_it_finds_what_brute_force_finds(self, store: CaseStore) -> None:
        vectors, queries = unit(300), unit(7, seed=1)
        store.add(entries(vectors))
        ids = {case(number).id: number for number in range(300)}
        truth = queries.astype(np.float64) @ vectors.T.astype(np.float64)
        for query, found in enumerate(store.search(queries, "one", 10)):
            similarities = [similar.similarity for similar in found]
            assert similarities == sorted(similarities, reverse=True)
            np.testing.assert_allclose(similarities, np.sort(truth[query])[::-1][:10], atol=TOLERANCE)
            np.testing.assert_allclose(
                similarities, [truth[query, ids[similar.id]] for similar in found], atol=TOLERANCE
            )

    def test_well_separated_cases_come_in_order(self, store: CaseStore) -> None:
        angles = np.radians([40, 0, 80, 20, 160, 120])
        vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        store.add(entries(vectors))
        (found,) = store.search(vectors[1:2], "one", 6)
        assert [similar.id for similar in found] == [case(number).id for number in (1, 3, 0, 2, 5, 4)]
        np.testing.assert_allclose(
            [s.similarity for s in found], np.sort(np.cos(angles))[::-1], atol=TOLERANCE
        )

    def test_a_similar_case_says_what_is_known(self, store: CaseStore) -> None:
        store.add([entry(0, unit(1)[0], labels=("a", "b"), report="clear", source="set/0.png")])
        ((found,),) = store.search(unit(1), "one", 1)
        assert (found.id, found.sha256, found.task) == (case(0).id, case(0).sha256, "chest")
        assert (found.labels, found.report, found.source) == (("a", "b"), "clear", "set/0.png")
        assert found.encoder == "one"
        assert found.similarity == pytest.approx(1, abs=TOLERANCE)

    def test_alone_and_in_a_batch_a_query_finds_the_same(self, store: CaseStore) -> None:
        store.add(entries(unit(200)))
        queries = unit(9, seed=3)
        together = store.search(queries, "one", 7)
        assert together == [store.search(query[None], "one", 7)[0] for query in queries]

    def test_equal_similarities_are_ordered_by_id(self, store: CaseStore) -> None:
        same = np.repeat(unit(1), 20, axis=0)
        store.add(entries(same)[::-1])
        (found,) = store.search(same[:1], "one", 20)
        assert [similar.id for similar in found] == sorted(case(number).id for number in range(20))
        (few,) = store.search(same[:1], "one", 7)
        assert few == found[:7]

    @pytest.mark.parametrize("k", [0, 1, 3, 4, 1000])
    def test_at_most_k_are_found(self, store: CaseStore, k: int) -> None:
        store.add(entries(unit(3)))
        assert [len(found) for found in store.search(unit(2, seed=5), "one", k)] == [min(k, 3)] * 2

    def test_a_negative_k_is_refused(self, store: CaseStore) -> None:
        store.add(entries(unit(3)))
        with pytest.raises(StoreError):
            store.search(unit(1), "one", -1)

    def test_no_queries_find_nothing(self, store: CaseStore) -> None:
        store.add(entries(unit(3)))
        assert store.search(np.empty((0, WIDTH), np.float32), "one", 5) == []

    def test_every_encoder_has_its_own_space(self, store: CaseStore) -> None:
        one, two = unit(4), unit(4, 8)
        store.add([Entry(case(0), {"one": one[0], "two": two[0]}), entry(1, one[1]), entry(2, two[1], "two")])
        assert {s.id for s in store.search(one[:1], "one", 9)[0]} == {case(0).id, case(1).id}
        assert {s.id for s in store.search(two[:1], "two", 9)[0]} == {case(0).id, case(2).id}

    # Filters and exclusions

    def test_a_filter_finds_only_its_tasks(self, store: CaseStore) -> None:
        vectors = unit(30)
        tasks = ("chest", "lung", "breast")
        store.add([entry(n, vector, task=tasks[n % 3]) for n, vector in enumerate(vectors)])
        (found,) = store.search(vectors[:1], "one", 30, where=Filter(("lung",)))
        assert [s.task for s in found] == ["lung"] * 10
        (found,) = store.search(vectors[:1], "one", 30, where=Filter(("lung", "breast")))
        assert {s.task for s in found} == {"lung", "breast"}
        assert store.search(vectors[:1], "one", 30, where=Filter(("none",))) == [[]]
        assert [e.case.task for e in store.scan(Filter(("lung",)))] == ["lung"] * 10

    def test_a_filter_by_modality(self, store: CaseStore) -> None:
        vectors = unit(12)
        store.add(
            [
                entry(n, v, task=("chest", "lung")[n % 2], modality=("X-ray", "CT", "MRI")[n % 3])
                for n, v in enumerate(vectors)
            ]
        )
        (found,) = store.search(vectors[:1], "one", 30, where=Filter(modalities=("CT",)))
        assert {s.id for s in found} == {case(n).id for n in range(12) if n % 3 == 1 and n % 2 == 0} | {
            case(n, task="lung").id for n in range(12) if n % 3 == 1 and n % 2
        }
        both = Filter(("lung",), ("CT", "MRI"))
        wanted = {case(n, task="lung").id for n in range(12) if n % 3 and n % 2}
        assert {s.id for s in store.search(vectors[:1], "one", 30, where=both)[0]} == wanted
        assert {e.case.id for e in store.scan(both)} == wanted
        assert store.count(both) == len(wanted)
        assert store.search(vectors[:1], "one", 30, where=Filter(("lung",), ("none",))) == [[]]

    def test_a_filter_by_labels(self, store: CaseStore) -> None:
        vectors, names = unit(6), ("normal", "mass", "node, small")
        labels = [(), names[:1], names[1:2], names[:2], names[1:], names[2:]]
        store.add([entry(n, vector, labels=labels[n]) for n, vector in enumerate(vectors)])
        for where, numbers in (
            (Filter(labels=("mass",)), {2, 3, 4}),
            (Filter(labels=("normal", "node, small")), {1, 3, 4, 5}),
            (Filter(without=("mass",)), {0, 1, 5}),
            (Filter(labels=("normal",), without=("mass", "node, small")), {1}),
            (Filter(("lung",), labels=("mass",)), set()),
            (Filter(labels=("small",)), set()),
        ):
            wanted = {case(n).id for n in numbers}
            assert {s.id for s in store.search(vectors[:1], "one", 6, where=where)[0]} == wanted
            assert {e.case.id for e in store.scan(where)} == wanted
            assert store.count(where) == len(wanted)

    def test_cases_are_excluded_by_id(self, store: CaseStore) -> None:
        vector = unit(1)[0]
        store.add([entry(0, vector), entry(0, vector, task="lung"), entry(1, vector)])
        exclude = [Exclusion(ids=frozenset([case(0).id, "no id"]))]
        (found,) = store.search(vector[None], "one", 5, exclude=exclude)
        assert {s.id for s in found} == {case(0, task="lung").id, case(1).id}

    def test_exclusions_are_each_for_its_own_query(self, store: CaseStore) -> None:
        vectors = unit(12)
        store.add([entry(n, vector, group=f"p{n // 3}" if n else "") for n, vector in enumerate(vectors)])
        exclude = [
            Exclusion(sha256s=frozenset([case(1).sha256])),
            Exclusion(groups=frozenset(["p2", "p3"])),
            Exclusion(),
            Exclusion(groups=frozenset([""])),
        ]
        found = store.search(vectors[[1, 7, 1, 1]], "one", 20, exclude=exclude)
        ids = [{similar.id for similar in cases} for cases in found]
        everyone = {case(number).id for number in range(12)}
        assert ids[0] == everyone - {case(1).id}
        assert ids[1] == everyone - {case(number).id for number in range(6, 12)}
        assert ids[2] == everyone
        assert ids[3] == everyone, "an empty group is an unknown one"

    def test_an_excluded_image_is_excluded_from_every_task(self, store: CaseStore) -> None:
        vector = unit(1)[0]
        store.add([entry(0, vector), entry(0, vector, task="lung"), entry(1, vector)])
        exclude = [Exclusion(sha256s=frozenset([case(0).sha256]))]
        assert [s.id for s in store.search(vector[None], "one", 5, exclude=exclude)[0]] == [case(1).id]

    def test_near_duplicates_are_excluded(self, store: CaseStore) -> None:
        angles = np.radians([0, 2, 10, 60])
        vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        store.add(entries(vectors))
        for ceiling, left in ((0.99, [2, 3]), (0.9, [3]), (0.2, []), (1.1, [0, 1, 2, 3])):
            exclude = [Exclusion(above_similarity=ceiling)]
            (found,) = store.search(vectors[:1], "one", 4, exclude=exclude)
            assert [s.id for s in found] == [case(number).id for number in left]
        (found,) = store.search(vectors[:1], "one", 1, exclude=[Exclusion(above_similarity=0.99)])
        assert [s.id for s in found] == [case(2).id], "k counts what is left"

    def test_filter_and_exclusions_together_are_brute_force(self, store: CaseStore) -> None:
        vectors = unit(200)
        known = [entry(n, v, task=("chest", "lung")[n % 2], group=f"p{n % 7}") for n, v in enumerate(vectors)]
        store.add(known)
        query = vectors[10]
        exclude = Exclusion(frozenset([case(10).sha256, case(12).sha256]), frozenset(["p1"]), 0.5)
        truth = vectors @ query
        allowed = [
            n for n in range(200) if n % 2 == 0 and n not in (10, 12) and n % 7 != 1 and truth[n] <= 0.5
        ]
        best = sorted(allowed, key=lambda n: -truth[n])[:8]
        (found,) = store.search(query[None], "one", 8, where=Filter(("chest",)), exclude=[exclude])
        assert [s.id for s in found] == [case(n).id for n in best]

    def test_exclusions_must_be_as_many_as_queries(self, store: CaseStore) -> None:
        store.add(entries(unit(3)))
        with pytest.raises(StoreError, match="2"):
            store.search(unit(3), "one", 5, exclude=[Exclusion(), Exclusion()])

    def test_many_exclusions(self, store: CaseStore) -> None:
        store.add(entries(unit(20)))
        hashes = frozenset(case(number).sha256 for number in range(1, 3000))
        (found,) = store.search(unit(1), "one", 5, exclude=[Exclusion(hashes, hashes)])
        assert [s.id for s in found] == [case(0).id]

    # What does not fit

    def test_a_vector_of_another_width_is_refused(self, store: CaseStore) -> None:
        store.add(entries(unit(2)))
        with pytest.raises(VectorMismatch, match=r"32.*16|16.*32"):
            store.add([entry(5, unit(1, 16)[0])])
        with pytest.raises(VectorMismatch, match=r"32.*16|16.*32"):
            store.search(unit(1, 16), "one", 5)
        assert store.count() == 2

    def test_widths_that_differ_inside_one_call_are_refused(self, store: CaseStore) -> None:
        with pytest.raises(VectorMismatch):
            store.add([entry(0, unit(1)[0]), entry(1, unit(1, 16)[0])])

    def test_an_unknown_encoder_is_named_with_the_known(self, store: CaseStore) -> None:
        store.add([Entry(case(0), {"one": unit(1)[0], "another": unit(1)[0]})])
        with pytest.raises(VectorMismatch, match=r"'three'.*another.*one"):
            store.search(unit(1), "three", 5)

    @pytest.mark.parametrize(
        "vector",
        [
            np.full(WIDTH, np.nan, np.float32),
            np.full(WIDTH, np.inf, np.float32),
            np.zeros(WIDTH, np.float32),
            unit(1)[0] * 2,
            unit(1)[0] * 0.5,
            np.array(["a"] * WIDTH),
            np.empty(0, np.float32),
            unit(2),
        ],
        ids=["nan", "infinity", "zero", "too long", "too short", "text", "empty", "two"],
    )
    def test_what_is_no_unit_vector_is_refused(self, store: CaseStore, vector: Vectors) -> None:
        store.add(entries(unit(2)))
        with pytest.raises(StoreError):
            store.add([entry(5, vector)])
        assert store.count() == 2
        if vector.shape != (2, WIDTH):
            with pytest.raises(StoreError):
                store.search(vector[None], "one", 5)

    @pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
    def test_hostile_text_is_only_text(self, store: CaseStore, text: str) -> None:
        vectors = unit(3)
        hostile = case(
            0,
            task=text,
            labels=(text, "b"),
            modality=text,
            group=text,
            source=text,
            licence=text,
            report=text,
        )
        store.add([Entry(hostile, {text: vectors[0]}, b"jpeg"), entry(1, vectors[1]), entry(2, vectors[2])])
        assert store.get([hostile.id])[hostile.id].case == hostile
        assert store.encoders() == {text: WIDTH, "one": WIDTH}
        assert store.tasks() == {text: 1, "chest": 2}
        ((found,),) = store.search(vectors[:1], text, 5, where=Filter((text,)))
        assert (found.task, found.labels, found.source, found.report) == (text, (text, "b"), text, text)
        assert store.search(vectors[:1], text, 5, exclude=[Exclusion(groups=frozenset([text]))]) == [[]]
        assert store.count(Filter((text,))) == 1
        assert store.delete([text]) == 0
        assert store.thumbnail(text) is None
        assert store.delete([hostile.id]) == 1
        assert store.tasks() == {"chest": 2}

    # Reading

    def test_a_scan_is_ordered_by_id(self, store: CaseStore) -> None:
        vectors = unit(600)
        store.add(entries(vectors))
        scanned = list(store.scan())
        assert [e.case.id for e in scanned] == sorted(case(number).id for number in range(600))
        by_id = {case(number).id: vector for number, vector in enumerate(vectors)}
        for found in scanned:
            np.testing.assert_allclose(found.vectors["one"], by_id[found.case.id], atol=TOLERANCE)

    def test_get_leaves_out_what_is_not_there(self, store: CaseStore) -> None:
        store.add(entries(unit(3)))
        found = store.get([case(2).id, case(7).id, case(0).id, case(2).id])
        assert {id: e.case for id, e in found.items()} == {case(0).id: case(0), case(2).id: case(2)}
        assert store.get([]) == {}

    def test_thumbnails(self, store: CaseStore) -> None:
        jpeg = bytes(range(256)) * 8
        store.add([Entry(case(0), {}, jpeg), Entry(case(1), {})])
        assert store.thumbnail(case(0).id) == jpeg
        assert store.thumbnail(case(1).id) is None
        assert store.thumbnail(case(2).id) is None

    # Deleting and staying

    def test_deleted_cases_are_gone(self, store: CaseStore) -> None:
        vectors = unit(10)
        store.add([Entry(case(n), {"one": vector}, b"jpeg") for n, vector in enumerate(vectors)])
        assert len(store.search(vectors[:1], "one", 20)[0]) == 10
        gone = [case(number).id for number in (0, 3)]
        assert store.delete([*gone, case(99).id, gone[0]]) == 2
        assert store.delete(gone) == 0
        assert store.count() == 8
        assert not set(gone) & {s.id for s in store.search(vectors[:1], "one", 20)[0]}
        assert store.get(gone) == {}
        assert store.thumbnail(gone[0]) is None

    def test_a_deleted_case_can_be_added_with_other_labels(self, store: CaseStore) -> None:
        vectors = unit(3)
        store.add(entries(vectors))
        store.search(vectors[:1], "one", 1)
        store.delete([case(0).id])
        assert store.add([entry(0, vectors[2], labels=("pneumonia",))]) == 1
        found = {s.id: s for s in store.search(vectors[2:], "one", 3)[0]}
        assert len(found) == 3
        assert found[case(0).id].labels == ("pneumonia",)
        assert found[case(0).id].similarity == pytest.approx(1, abs=TOLERANCE)

    def test_a_restart_keeps_everything(self, opened: Opened) -> None:
        vectors = unit(50)
        first = opened()
        first.add([Entry(case(n, report=HOSTILE[5]), {"one": v}, b"jpeg") for n, v in enumerate(vectors)])
        before = (list(map(_plain, first.scan())), first.search(vectors[:4], "one", 5), first.encoders())
        first.close()
        again = opened()
        assert (
            list(map(_plain, again.scan())),
            again.search(vectors[:4], "one", 5),
            again.encoders(),
        ) == before
        assert again.add(entries(vectors)) == 0
        again.close()

    def test_a_closed_store_says_so(self, opened: Opened) -> None:
        store = opened()
        store.close()
        store.close()
        with pytest.raises(StoreError, match="closed"):
            store.count()

    def test_another_handle_sees_what_was_written(self, opened: Opened) -> None:
        reader, writer = opened(), opened()
        vectors = unit(4)
        for number in range(4):
            assert len(reader.search(vectors[:1], "one", 9)[0]) == number
            writer.add([entry(number, vectors[number])])
        writer.delete([case(0).id])
        assert case(0).id not in {s.id for s in reader.search(vectors[:1], "one", 9)[0]}
        reader.close()
        writer.close()

    # At the same time

    def test_threads_share_a_store(self, store: CaseStore) -> None:
        vectors = unit(400)
        store.add(entries(vectors[:100]))
        alone = store.search(vectors[:20], "one", 1)

        def write(part: int) -> None:
            for number in range(100 + part, 400, 3):
                store.add([entry(number, vectors[number])])

        def read() -> None:
            for number in range(20):
                assert store.search(vectors[number][None], "one", 1)[0] == alone[number]
                assert sum(1 for _ in store.scan(Filter(("chest",)))) >= 100

        _at_once([*(lambda part=part: write(part) for part in range(3)), read, read])
        assert store.count() == 400
        assert [s[0].id for s in store.search(vectors, "one", 1)] == [case(n).id for n in range(400)]

    def test_several_handles_write_and_read(self, opened: Opened) -> None:
        vectors = unit(200)

        def write(part: int) -> None:
            own = opened()
            # Each writer overlaps with the next: the same case comes from two sides.
            for number in range(part * 40, min(200, part * 40 + 80)):
                own.add([entry(number, vectors[number])])
            own.close()

        def read() -> None:
            own, seen = opened(), 0
            while seen < 200:
                count, found = own.count(), own.search(vectors[:1], "one", 500)[0]
                assert seen <= count <= len(found) <= 200
                seen = len(found)
                time.sleep(0.02)  # or it would keep the writers from their turn
            own.close()

        _at_once([*(lambda part=part: write(part) for part in range(5)), read])
        store = opened()
        assert store.count() == 200
        assert len({found.case.id for found in store.scan()}) == 200
        store.close()

    def test_several_handles_complete_the_same_cases(self, opened: Opened) -> None:
        vectors, names = unit(40), ("one", "two", "three")

        def write(name: str) -> None:
            own = opened()
            for start in range(0, 40, 8):
                own.add([entry(n, vectors[n], name) for n in range(start, start + 8)])
            own.close()

        _at_once([lambda name=name: write(name) for name in names])
        store = opened()
        assert store.count() == 40
        assert store.encoders() == dict.fromkeys(sorted(names), WIDTH)
        for found in store.scan():
            assert found.vectors.keys() == set(names)
        store.close()

    def test_deleting_while_others_search(self, store: CaseStore) -> None:
        vectors = unit(120)
        store.add(entries(vectors))

        def delete() -> None:
            for number in range(60):
                store.delete([case(number).id])

        def read() -> None:
            for _ in range(40):
                (found,) = store.search(vectors[:1], "one", 60)
                assert len(found) == 60

        _at_once([delete, read, read])
        assert store.count() == 60


def _plain(found: Entry) -> tuple[object, ...]:
    return (found.case, found.thumbnail, {name: vector.tolist() for name, vector in found.vectors.items()})


def _at_once(actions: Iterable[Callable[[], None]]) -> None:
    """Run actions in threads; the first error of any of them is raised here."""
    errors: list[BaseException] = []

    def guarded(action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(action,), daemon=True) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        if thread.is_alive() and not errors:
            errors.append(AssertionError("a thread hangs"))
    if errors:
        raise errors[0]
