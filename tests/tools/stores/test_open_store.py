from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gsco.models.mini
import pytest
from gsco.errors import ConfigurationError, StoreError
from gsco.tools.stores import open_store
from gsco.tools.stores.bank import write_bank
from gsco.tools.stores.embedded import EmbeddedStore

from .conformance import case, entries, unit


@pytest.fixture
def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bank in the place of the bundled one."""
    with EmbeddedStore(tmp_path / "made.sqlite") as store:
        store.add(entries(unit(4)))
        write_bank(store, tmp_path / "mini" / "bank" / "bank.npz")
    monkeypatch.setattr(gsco.models.mini, "bundled", lambda part: tmp_path / "mini" / part)
    return tmp_path / "mini" / "bank" / "bank.npz"


def test_no_address_is_the_bundled_bank(bank: Path, tmp_path: Path) -> None:
    for _ in range(2):
        store = open_store("", home=tmp_path / "home")
        assert store.search(unit(1), "one", 1)[0][0].id == case(0).id
        with pytest.raises(StoreError, match="read-only"):
            store.delete([case(0).id])
        store.close()
    assert len(list((tmp_path / "home" / "banks").iterdir())) == 1


def test_the_bundled_bank_is_never_written(bank: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="read-only"):
        open_store("", home=tmp_path / "home", writable=True)


def test_without_a_bundled_bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gsco.models.mini, "bundled", lambda part: tmp_path / part)
    with pytest.raises(StoreError, match="bank card"):
        open_store("", home=tmp_path / "home")


@pytest.mark.parametrize("name", ["mine.sqlite", "folder", "folder.with.dots"])
def test_a_path_is_a_file_or_a_folder(tmp_path: Path, name: str) -> None:
    if name == "folder.with.dots":
        (tmp_path / name).mkdir()
    with pytest.raises(StoreError, match="gsco store build"):
        open_store(str(tmp_path / name), home=tmp_path)
    store = open_store(tmp_path / name, home=tmp_path, writable=True)
    store.add(entries(unit(3)))
    store.close()
    again = open_store(f" {tmp_path / name} ", home=tmp_path)
    assert again.count() == 3
    again.close()
    assert (tmp_path / name / "cases.sqlite").is_file() == (name != "mine.sqlite")


def test_the_home_folder_is_meant_by_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    open_store("~/cases.sqlite", home=tmp_path, writable=True).close()
    assert (tmp_path / "cases.sqlite").is_file()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("postgres://host/cases", "postgres"),
        ("WEAVIATE://", "HOST"),
        ("embedded://cases", "embedded"),
        ("weaviate.store://host", "weaviate.store"),
    ],
)
def test_an_address_of_another_kind(tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        open_store(address, home=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_loads_no_array_library() -> None:
    code = "import gsco.tools.stores, sys; print({'numpy', 'torch', 'sqlite3'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
