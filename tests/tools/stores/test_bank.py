from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gsco.errors import StoreError, VectorMismatch
from gsco.tools.stores.bank import read_bank, read_card, write_bank
from gsco.tools.stores.bundled_bank import unpack_bank
from gsco.tools.stores.embedded import EmbeddedStore
from gsco.tools.stores.protocol import Entry, Filter

from .conformance import HOSTILE, case, unit


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path / "cases.sqlite")
    one, two = unit(30), unit(30, 8, seed=1)
    store.add(
        Entry(
            case(
                n,
                task=("chest", "lung")[n % 2],
                labels=(HOSTILE[n % 10], "b"),
                report=HOSTILE[n % 10] if n % 3 else None,
                licence=("CC0", "")[n % 2],
            ),
            {"one": one[n], **({"two": two[n]} if n % 4 else {})},
            bytes([255, 216, n]) * n or None,
        )
        for n in range(30)
    )
    yield store
    store.close()


@pytest.fixture
def bank(store: EmbeddedStore, tmp_path: Path) -> Path:
    write_bank(store, tmp_path / "bank" / "bank.npz", about={"made by": "a test"})
    return tmp_path / "bank" / "bank.npz"


def _assert_same(ours: Entry, theirs: Entry) -> None:
    assert (ours.case, ours.thumbnail) == (theirs.case, theirs.thumbnail)
    assert ours.vectors.keys() == theirs.vectors.keys()
    for name, vector in ours.vectors.items():
        assert theirs.vectors[name].dtype == np.float32
        # Eight bits a number: the direction may turn a little.
        assert vector @ theirs.vectors[name] > 0.9995


def _names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_bank_holds_the_store(store: EmbeddedStore, bank: Path) -> None:
    read = list(read_bank(bank))
    assert len(read) == 30
    for ours, theirs in zip(store.scan(), read, strict=True):
        _assert_same(ours, theirs)


def test_a_bank_of_its_own_store_is_the_same_file(bank: Path, tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "again.sqlite") as again:
        again.add(reversed(list(read_bank(bank))))
        write_bank(again, tmp_path / "again" / "bank.npz", about={"made by": "a test"})
    for name in ("bank.npz", "card.json"):
        assert (tmp_path / "again" / name).read_bytes() == bank.with_name(name).read_bytes()


def test_the_card_says_what_is_in_it(bank: Path) -> None:
    card = read_card(bank)
    assert card.sha256 == hashlib.sha256(bank.read_bytes()).hexdigest()
    assert (card.cases, dict(card.tasks)) == (30, {"chest": 15, "lung": 15})
    assert dict(card.encoders) == {"one": 32, "two": 8}
    assert dict(card.licences) == {"chest": ("CC0",), "lung": ("unknown",)}
    assert dict(card.about) == {"made by": "a test"}


def test_a_part_of_a_store(store: EmbeddedStore, tmp_path: Path) -> None:
    path = tmp_path / "part" / "bank.npz"
    card = write_bank(store, path, where=Filter(("lung",)), encoders=["two"], thumbnails=False)
    assert (dict(card.tasks), dict(card.encoders)) == ({"lung": 15}, {"two": 8})
    read = list(read_bank(path))
    assert {found.case.task for found in read} == {"lung"}
    assert all(found.thumbnail is None and "one" not in found.vectors for found in read)
    with pytest.raises(VectorMismatch, match=r"'three'.*one, two"):
        write_bank(store, tmp_path / "other" / "bank.npz", encoders=["three"])
    assert not (tmp_path / "other").exists()


def test_an_empty_store_makes_an_empty_bank(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "empty.sqlite") as empty:
        assert write_bank(empty, tmp_path / "bank.npz").cases == 0
    assert list(read_bank(tmp_path / "bank.npz")) == []


def test_a_bank_needs_no_pickle_and_is_readable_by_others(bank: Path) -> None:
    with np.load(bank, allow_pickle=False) as arrays:
        assert {arrays[name].dtype.str for name in arrays.files} == {"|u1", "<i8", "<i4", "|i1"}
    assert bank.stat().st_mode & 0o777 == 0o644
    assert _names(bank.parent) == ["bank.npz", "card.json"]


def test_writing_again_replaces_the_bank(store: EmbeddedStore, bank: Path) -> None:
    store.delete([found.case.id for found in store.scan(Filter(("lung",)))])
    write_bank(store, bank)
    assert {found.case.task for found in read_bank(bank)} == {"chest"}
    assert _names(bank.parent) == ["bank.npz", "card.json"]


def test_a_folder_that_cannot_be_written(store: EmbeddedStore, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        write_bank(store, tmp_path / "file" / "bank.npz")


# What is no bank


@pytest.mark.parametrize("name", ["bank.npz", "card.json"])
def test_a_missing_file_is_an_error(bank: Path, name: str) -> None:
    bank.with_name(name).unlink()
    with pytest.raises(StoreError, match=r"cannot be read.*No such file"):
        list(read_bank(bank))


def test_a_changed_file_is_noticed(bank: Path) -> None:
    content = bytearray(bank.read_bytes())
    content[len(content) // 2] ^= 1
    bank.write_bytes(content)
    with pytest.raises(StoreError, match="not the file that its card describes"):
        list(read_bank(bank))


@pytest.mark.parametrize("card", ["", "{", "[]", '{"format": 2}', '{"sha256": "x"}'])
def test_a_wrong_card_is_an_error(bank: Path, card: str) -> None:
    bank.with_name("card.json").write_text(card, encoding="utf-8")
    with pytest.raises(StoreError, match="not the card of a bank"):
        list(read_bank(bank))


def _with_its_hash(bank: Path, content: bytes) -> None:
    bank.write_bytes(content)
    card = json.loads(bank.with_name("card.json").read_bytes())
    card["sha256"] = hashlib.sha256(content).hexdigest()
    bank.with_name("card.json").write_text(json.dumps(card), encoding="utf-8")


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_other_files_are_no_banks(bank: Path) -> None:
    with np.load(bank) as loaded:
        good = {name: loaded[name] for name in loaded.files}
    pickled = np.array([{"a": 1}], dtype=object)
    wrong = [
        b"",
        b"no zip at all",
        _npy(np.zeros(3)),
        _npz({}),
        _npz({**good, "cases": pickled}),
        _npz({**good, "cases": np.frombuffer(b"[1, 2]", np.uint8)}),
        _npz({**good, "cases": np.frombuffer(b'[{"sha256": 1}]', np.uint8)}),
        _npz({**good, "rows_0": good["rows_0"] + 1000}),
        _npz({**good, "rows_0": good["rows_0"][:-1]}),
        _npz({**good, "thumbnail_ends": good["thumbnail_ends"][:-1]}),
    ]
    for content in wrong:
        _with_its_hash(bank, content)
        with pytest.raises(StoreError, match="not a bank"):
            list(read_bank(bank))
    _with_its_hash(bank, _npz(good))
    assert len(list(read_bank(bank))) == 30


def test_a_member_that_is_cut_off(bank: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(bank) as whole, zipfile.ZipFile(file, "w") as cut:
        for name in whole.namelist():
            cut.writestr(name, whole.read(name)[:-7])
    _with_its_hash(bank, file.getvalue())
    with pytest.raises(StoreError, match="not a bank"):
        list(read_bank(bank))


# Unpacking


def test_a_bank_is_unpacked_once(store: EmbeddedStore, bank: Path, tmp_path: Path) -> None:
    home = tmp_path / "home" / "banks"
    made = unpack_bank(bank, home)
    assert made.name == f"bundled-{read_card(bank).sha256[:12]}.sqlite"
    first = made.stat()
    assert unpack_bank(bank, home) == made
    assert made.stat().st_mtime_ns == first.st_mtime_ns
    assert _names(home) == [made.name]
    with EmbeddedStore(made, readonly=True) as unpacked:
        for ours, theirs in zip(store.scan(), unpacked.scan(), strict=True):
            _assert_same(ours, theirs)
        (ours, *_), (theirs, *_) = (each.search(unit(2), "one", 5) for each in (store, unpacked))
        assert [case.id for case in theirs] == [case.id for case in ours]
        assert [case.similarity for case in theirs] == pytest.approx(
            [case.similarity for case in ours], abs=0.02
        )
        assert _names(home) == [made.name]


def test_another_bank_is_another_store(store: EmbeddedStore, bank: Path, tmp_path: Path) -> None:
    first = unpack_bank(bank, tmp_path / "banks")
    store.delete([case(0, task="chest").id])
    write_bank(store, bank)
    second = unpack_bank(bank, tmp_path / "banks")
    assert first != second
    with EmbeddedStore(second, readonly=True) as unpacked:
        assert unpacked.count() == 29


def test_a_compression_that_is_not_known_is_an_error(bank: Path) -> None:
    content = bank.read_bytes()
    listed = content.index(b"PK\x01\x02")
    # The method in the first entry of the directory, which says how it is compressed.
    _with_its_hash(bank, content[: listed + 10] + b"\x63\x00" + content[listed + 12 :])
    with pytest.raises(StoreError, match="not a bank"):
        list(read_bank(bank))


def test_a_damaged_bank_leaves_no_store(bank: Path, tmp_path: Path) -> None:
    bank.write_bytes(bank.read_bytes()[:-100])
    with pytest.raises(StoreError):
        unpack_bank(bank, tmp_path / "banks")
    assert _names(tmp_path / "banks") == []


def test_a_folder_that_cannot_be_made(bank: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="GSCO_HOME"):
        unpack_bank(bank, tmp_path / "file" / "banks")


def test_processes_unpack_at_once(bank: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from gsco.tools.stores.bundled_bank import unpack_bank\n"
        "from gsco.tools.stores.embedded import EmbeddedStore\n"
        "s = EmbeddedStore(unpack_bank(sys.argv[1], sys.argv[2]), readonly=True); print(s.count())"
    )
    command = [sys.executable, "-c", code, str(bank), str(tmp_path / "banks")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0].strip() for process in processes] == ["30"] * 4
    assert len(_names(tmp_path / "banks")) == 1
