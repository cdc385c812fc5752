from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gsco.errors import StoreError, VectorMismatch
from gsco.tools.stores.embedded import EmbeddedStore
from gsco.tools.stores.exact import Hit, IndexView
from gsco.tools.stores.protocol import Entry, Exclusion, Filter

from .conformance import CaseStoreConformance, Opened, case, entries, entry, unit

WRITER = """
import sys
import numpy as np
from gsco.tools.stores.embedded import EmbeddedStore
from gsco.tools.stores.protocol import Entry, KnownCase

path, start, stop, batch = sys.argv[1], *map(int, sys.argv[2:])
store = EmbeddedStore(path)
print("ready", flush=True)
for first in range(start, stop, batch):
    rows = range(first, min(stop, first + batch))
    store.add(
        Entry(
            KnownCase(sha256=f"{n:064x}", task="chest", labels=(str(n),), report="r" * 2000),
            {"one": np.eye(64, dtype=np.float32)[n % 64], "two": np.eye(8, dtype=np.float32)[n % 8]},
            str(n).encode() * 300,
        )
        for n in rows
    )
    print(first, flush=True)
"""

READER = """
import os
import sys
from pathlib import Path
from gsco.errors import StoreError
from gsco.tools.stores.embedded import EmbeddedStore

if os.geteuid() == 0:
    # Root may write anywhere, so that it has to become somebody else.
    os.setuid(65534)
path = Path(sys.argv[1])
store = EmbeddedStore(path, readonly=True)
print(store.count(), len(list(store.scan())))
try:
    EmbeddedStore(path).add([])
except StoreError as error:
    print(error)
print(os.listdir(path.parent))
"""


class TestEmbeddedStore(CaseStoreConformance):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Opened:
        return lambda: EmbeddedStore(tmp_path / "cases.sqlite")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cases.sqlite"


def test_many_handles_make_and_leave_one_file_at_once(tmp_path: Path) -> None:
    """SQLite itself refuses the change to a write-ahead log at once where another handle is busy."""
    for turn in range(60):
        together = threading.Barrier(6)

        def make_and_leave(turn: int = turn, together: threading.Barrier = together) -> None:
            together.wait()
            for _ in range(3):
                EmbeddedStore(tmp_path / f"{turn}.sqlite").close()

        with ThreadPoolExecutor(6) as pool:
            for made in [pool.submit(make_and_leave) for _ in range(6)]:
                made.result()


@pytest.fixture
def filled(path: Path) -> Path:
    with EmbeddedStore(path) as store:
        store.add(entries(unit(20)))
    return path


def _writer(path: Path, start: int, stop: int, batch: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(start), str(stop), str(batch)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _assert_whole(store: EmbeddedStore) -> int:
    kept = list(store.scan())
    for found in kept:
        n = int(found.case.labels[0])
        assert found.case.sha256 == f"{n:064x}"
        assert found.vectors["one"].argmax() == n % 64
        assert found.vectors["two"].argmax() == n % 8
        assert found.thumbnail == str(n).encode() * 300
    with sqlite3.connect(store.path) as sql:
        assert sql.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert sql.execute("PRAGMA foreign_key_check").fetchall() == []
    sql.close()
    return len(kept)


# Precision and search


def test_half_precision_moves_similarities_by_less_than_a_thousandth(path: Path) -> None:
    vectors, queries = unit(2000, 1280), unit(20, 1280, seed=1)
    vectors[:20] = queries
    with EmbeddedStore(path) as store:
        store.add(entries(vectors))
        found = store.search(queries, "one", 2000)
    truth = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    numbers = {case(number).id: number for number in range(2000)}
    errors = [abs(s.similarity - truth[q, numbers[s.id]]) for q, cases in enumerate(found) for s in cases]
    assert max(errors) < 1e-4
    assert len(errors) == 20 * 2000


def test_reading_and_writing_again_changes_no_bit(filled: Path, tmp_path: Path) -> None:
    with EmbeddedStore(filled) as store, EmbeddedStore(tmp_path / "copy.sqlite") as copy:
        copy.add(store.scan())
        query = unit(3, seed=2)
        assert store.search(query, "one", 20) == copy.search(query, "one", 20)
        for ours, theirs in zip(store.scan(), copy.scan(), strict=True):
            assert (ours.vectors["one"] == theirs.vectors["one"]).all()


def test_a_similarity_is_never_above_one(path: Path) -> None:
    vectors = unit(500)
    with EmbeddedStore(path) as store:
        store.add(entries(vectors))
        assert all(0.999 < cases[0].similarity <= 1 for cases in store.search(vectors, "one", 1))


def test_it_searches_while_it_grows(path: Path) -> None:
    vectors = unit(1000)
    with EmbeddedStore(path) as store:
        for start in range(0, 1000, 100):
            store.add(entries(vectors)[start : start + 100])
            found = store.search(vectors[: start + 100], "one", 1)
            assert [cases[0].id for cases in found] == [case(n).id for n in range(start + 100)]


def test_a_late_vector_is_found(path: Path) -> None:
    vectors = unit(10)
    with EmbeddedStore(path) as store:
        store.add([Entry(case(n), {"two": v}) for n, v in enumerate(vectors)])
        store.add(entries(vectors[5:6], "one"))
        assert len(store.search(vectors[:1], "one", 20)[0]) == 1
        store.add([Entry(case(n), {"one": v}) for n, v in enumerate(vectors)])
        assert {s.id for s in store.search(vectors[:1], "one", 20)[0]} == {case(n).id for n in range(10)}


def test_an_encoder_goes_with_its_last_vector(path: Path) -> None:
    with EmbeddedStore(path) as store:
        store.add(entries(unit(2)))
        store.search(unit(1), "one", 1)
        store.delete([case(0).id, case(1).id])
        assert store.encoders() == {}
        store.add(entries(unit(2, 16)))
        assert store.encoders() == {"one": 16}
        assert len(store.search(unit(1, 16), "one", 5)[0]) == 2


def test_a_case_deleted_during_the_search_leaves_no_gap(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = IndexView.search

    def delete_meanwhile(self: IndexView, *arguments: Any) -> list[list[Hit]]:
        hits = search(self, *arguments)
        with EmbeddedStore(filled) as other:
            other.delete([case(0).id])
        return hits

    with EmbeddedStore(filled) as store:
        assert store.search(unit(1), "one", 1)[0][0].id == case(0).id
        monkeypatch.setattr(IndexView, "search", delete_meanwhile)
        (found,) = store.search(unit(1), "one", 5)
        assert len(found) == 5
        assert case(0).id not in {similar.id for similar in found}


def test_a_search_ends_however_fast_cases_are_deleted(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = IndexView.search

    def delete_what_is_found(self: IndexView, *arguments: Any) -> list[list[Hit]]:
        hits = search(self, *arguments)
        with EmbeddedStore(filled) as other:
            other.delete([case(hit.key - 1).id for hit in hits[0]])  # rows count from 1
        return hits

    with EmbeddedStore(filled) as store:
        monkeypatch.setattr(IndexView, "search", delete_what_is_found)
        (found,) = store.search(unit(1), "one", 5)
    assert len(found) == 5


def test_a_refused_batch_leaves_nothing_half(path: Path) -> None:
    with EmbeddedStore(path) as store:
        store.add(entries(unit(3)))
        wrong = Entry(case(8), {"new": unit(1)[0], "one": unit(1, 16)[0]}, b"jpeg")
        with pytest.raises(VectorMismatch):
            store.add([entry(7, unit(1)[0]), wrong])
        assert store.count() == 3
        assert store.encoders() == {"one": 32}
        assert store.thumbnail(case(8).id) is None


def test_one_query_must_still_be_a_row(filled: Path) -> None:
    with EmbeddedStore(filled) as store, pytest.raises(StoreError, match="shape"):
        store.search(unit(1)[0], "one", 5)


# The file


@pytest.mark.parametrize(
    "name", ["a b.sqlite", "ü心.sqlite", "100%.sqlite", "a?mode=ro#x.sqlite", "no suffix"]
)
def test_file_names_are_only_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new" / "folder" / name
    with EmbeddedStore(path) as store:
        store.add(entries(unit(2)))
    assert path.is_file()
    with EmbeddedStore(path, readonly=True) as store:
        assert store.count() == 2


def test_a_closed_store_is_one_file(filled: Path) -> None:
    assert [file.name for file in filled.parent.iterdir()] == [filled.name]


def test_a_store_that_nobody_closed_is_tidied_away(path: Path) -> None:
    store = EmbeddedStore(path)
    store.add(entries(unit(2)))
    del store
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_sealed_store_is_read_without_files_beside_it(filled: Path) -> None:
    with EmbeddedStore(filled) as store:
        store.seal()
    with EmbeddedStore(filled, readonly=True) as store:
        assert store.count() == 20
        assert [file.name for file in filled.parent.iterdir()] == [filled.name]
    with EmbeddedStore(filled) as store:
        assert store.add(entries(unit(21))) == 1


def test_reading_needs_a_store(path: Path) -> None:
    with pytest.raises(StoreError, match="gsco store build"):
        EmbeddedStore(path, readonly=True)
    assert not path.exists()
    path.touch()
    with pytest.raises(StoreError, match="gsco store build"):
        EmbeddedStore(path, readonly=True)


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    with EmbeddedStore(path) as store:
        assert store.add(entries(unit(2))) == 2


def test_reading_only_refuses_to_write(filled: Path) -> None:
    with EmbeddedStore(filled, readonly=True) as store:
        with pytest.raises(StoreError, match="readonly"):
            store.add(entries(unit(1)))
        with pytest.raises(StoreError, match="readonly"):
            store.delete([case(0).id])
        assert store.count() == 20


def test_a_reader_sees_a_writer(filled: Path) -> None:
    with EmbeddedStore(filled, readonly=True) as reader, EmbeddedStore(filled) as writer:
        assert reader.count() == 20
        writer.add([entry(77, unit(1, seed=7)[0])])
        assert reader.search(unit(1, seed=7), "one", 1)[0][0].id == case(77).id


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
@pytest.mark.parametrize("sealed", [False, True])
def test_a_read_only_folder_can_be_read(filled: Path, sealed: bool) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        if sealed:
            with EmbeddedStore(filled) as store:
                store.seal()
        shutil.copy(filled, folder / "cases.sqlite")
        (folder / "cases.sqlite").chmod(0o444)
        folder.chmod(0o555)
        command = [sys.executable, "-c", READER, str(folder / "cases.sqlite")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[0] == "20 20"
        assert "read-only" in lines[1]
        assert lines[-1] == "['cases.sqlite']"
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_folder_is_not_a_store(tmp_path: Path) -> None:
    for readonly in (True, False):
        with pytest.raises(StoreError, match=str(tmp_path)):
            EmbeddedStore(tmp_path, readonly=readonly)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="folder"):
        EmbeddedStore(tmp_path / "file" / "cases.sqlite")


@pytest.mark.parametrize("readonly", [True, False])
@pytest.mark.parametrize(
    "content", [b"not a database at all" * 500, b"\x89PNG\r\n\x1a\n" + bytes(5000), b"x"]
)
def test_another_kind_of_file_is_refused(path: Path, content: bytes, readonly: bool) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match="name another path"):
        EmbeddedStore(path, readonly=readonly)
    assert path.read_bytes() == content


@pytest.mark.parametrize("readonly", [True, False])
def test_another_programs_database_is_refused_and_left_alone(path: Path, readonly: bool) -> None:
    sql = sqlite3.connect(path)
    sql.execute("CREATE TABLE contacts(name)")
    sql.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        EmbeddedStore(path, readonly=readonly)
    assert path.read_bytes() == before


@pytest.mark.parametrize("readonly", [True, False])
def test_a_newer_schema_is_refused(filled: Path, readonly: bool) -> None:
    sql = sqlite3.connect(filled)
    sql.execute("PRAGMA user_version = 99")
    sql.close()
    with pytest.raises(StoreError, match=r"99.*update gsco"):
        EmbeddedStore(filled, readonly=readonly)


def _read_all(path: Path) -> None:
    with EmbeddedStore(path, readonly=True) as store:
        list(store.scan())
        store.search(unit(1), "one", 5)
        store.tasks()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9])
def test_a_truncated_file_is_an_error(filled: Path, share: float) -> None:
    with EmbeddedStore(filled) as store:
        store.add(entries(unit(500)))
    content = filled.read_bytes()
    filled.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(StoreError, match="damaged"):
        _read_all(filled)


def test_a_damaged_page_is_an_error(filled: Path) -> None:
    with EmbeddedStore(filled) as store:
        store.add(entries(unit(500)))
    content = bytearray(filled.read_bytes())
    content[20_000:-20_000] = os.urandom(len(content) - 40_000)
    filled.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        _read_all(filled)


def test_a_vector_of_the_wrong_length_is_an_error(filled: Path) -> None:
    sql = sqlite3.connect(filled)
    with sql:
        sql.execute("UPDATE vectors SET halves = x'00' WHERE row = 3")
    sql.close()
    with pytest.raises(StoreError, match="damaged"):
        _read_all(filled)


def test_a_lock_that_stays_is_an_error(filled: Path) -> None:
    other = sqlite3.connect(filled, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with EmbeddedStore(filled, timeout=0.1) as store:
        assert store.count() == 20
        with pytest.raises(StoreError, match="locked"):
            store.add(entries(unit(30)))
        other.execute("ROLLBACK")
        assert store.add(entries(unit(30))) == 10
    other.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process_must_open_its_own(filled: Path) -> None:
    with EmbeddedStore(filled) as store:
        child = os.fork()
        if child == 0:
            try:
                store.count()
            except StoreError as error:
                os._exit(7 if "fork" in str(error) else 1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert store.count() == 20


# Several processes


def test_processes_write_at_once(path: Path) -> None:
    writers = [_writer(path, part * 60, part * 60 + 120, 7) for part in range(3)]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        if path.exists() and path.stat().st_size:
            with _open_when_made(path) as reader:
                count = reader.count()
                assert count >= seen
                seen = count
        time.sleep(0.02)
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    with EmbeddedStore(path) as store:
        assert _assert_whole(store) == 240
        assert len(store.search(np.eye(64, dtype=np.float32)[:1], "one", 500)[0]) == 240


def _open_when_made(path: Path) -> EmbeddedStore:
    for _ in range(200):
        try:
            return EmbeddedStore(path, readonly=True)
        except StoreError as error:
            assert "is empty" in str(error)
            time.sleep(0.01)
    raise AssertionError("the store was never made")


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_killed_writer_leaves_whole_entries(path: Path, batches: int) -> None:
    writer = _writer(path, 0, 100_000, 100)
    assert writer.stdout is not None
    for _ in range(batches + 1):
        line = writer.stdout.readline()
        assert line
    time.sleep(0.003 * batches)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert writer.returncode == -signal.SIGKILL
    with EmbeddedStore(path, readonly=True) as store:
        kept = _assert_whole(store)
        assert kept >= batches * 100
        assert kept % 100 == 0, "a call of add is small enough to be one batch: all of it or nothing"
    with EmbeddedStore(path) as store:
        assert store.add([entry(1, unit(1, 64)[0])]) == 1
        assert store.count() == kept + 1


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path_factory.mktemp("large") / "cases.sqlite")
    store.add(entry(n, v, task=f"t{n % 3}", group=f"p{n // 5}") for n, v in enumerate(unit(4000)))
    yield store
    store.close()


@pytest.mark.parametrize("seed", range(5))
def test_random_searches_are_brute_force(large: EmbeddedStore, seed: int) -> None:
    random = np.random.default_rng(seed)
    stored = {found.case.id: found for found in large.scan()}
    matrix = np.stack([found.vectors["one"] for found in stored.values()]).astype(np.float64)
    known = [found.case for found in stored.values()]
    for query in unit(10, seed=100 + seed):
        tasks = tuple(random.choice(["t0", "t1", "t2"], random.integers(0, 3), replace=False).tolist())
        patients = frozenset(f"p{n}" for n in random.integers(0, 800, random.integers(0, 50)))
        ceiling, k = float(random.uniform(0.2, 0.6)), int(random.integers(1, 40))
        similarities = (matrix * query.astype(np.float64)).sum(axis=1)
        allowed = [
            (-similarity, known.id)
            for similarity, known in zip(similarities, known, strict=True)
            if (not tasks or known.task in tasks) and known.group not in patients and similarity <= ceiling
        ]
        exclude = [Exclusion(groups=patients, above_similarity=ceiling)]
        (found,) = large.search(query[None], "one", k, where=Filter(tasks), exclude=exclude)
        assert [s.id for s in found] == [id for _, id in sorted(allowed)[:k]]


def test_a_store_that_outgrows_exact_search_names_weaviate_once(
    filled: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gsco.tools.stores.vector_cache.LARGE", 0)
    with EmbeddedStore(filled) as store:
        for _ in range(2):
            store.search(unit(1), "one", 1)
    (said,) = caplog.messages
    assert f"move it: gsco store move --from {filled} --to weaviate://" in said
