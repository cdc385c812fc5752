from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gsco.case import SimilarCase
from gsco.errors import ConfigurationError, StoreError
from gsco.tools.store_copy import MoveReport, move_cases
from gsco.tools.stores import open_store
from gsco.tools.stores.embedded import EmbeddedStore
from gsco.tools.stores.protocol import Entry
from typer.testing import CliRunner

from .stores.conformance import HOSTILE, case, entries, entry, unit
from .stores.conftest import fresh, weaviate_url

__all__ = ["fresh", "weaviate_url"]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[EmbeddedStore]:
    vectors, others = unit(120), unit(120, 8, seed=1)
    with EmbeddedStore(tmp_path / "source.sqlite") as store:
        store.add(
            Entry(
                case(n, task=("chest", "lung")[n % 2], labels=(f"label {n % 3}",), report=HOSTILE[n % 8]),
                {"one": vectors[n], "two": others[n]} if n % 4 else {"one": vectors[n]},
                str(n).encode(),
            )
            for n in range(120)
        )
        yield store


@pytest.fixture
def target(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "target.sqlite") as store:
        yield store


def _same(one: Entry, other: Entry) -> bool:
    return (
        one.case == other.case
        and one.thumbnail == other.thumbnail
        and one.vectors.keys() == other.vectors.keys()
        and all(np.allclose(one.vectors[name], other.vectors[name], atol=1e-3) for name in one.vectors)
    )


def test_everything_arrives(source: EmbeddedStore, target: EmbeddedStore) -> None:
    report = move_cases(source, target, quiet=True)
    assert report == MoveReport(
        cases=120,
        added=120,
        tasks={"chest": 60, "lung": 60},
        encoders={"one": 32, "two": 8},
        searches=100,
        agreement=1.0,
    )
    assert all(map(_same, target.scan(), source.scan()))
    assert source.count() == 120


def test_it_goes_on_where_it_stopped(source: EmbeddedStore, target: EmbeddedStore) -> None:
    target.add(list(source.scan())[:50])
    assert move_cases(source, target, quiet=True).added == 70
    assert move_cases(source, target, quiet=True).added == 0


def test_what_the_target_has_of_its_own_stays(source: EmbeddedStore, target: EmbeddedStore) -> None:
    target.add(entries(unit(300, seed=7))[150:])
    report = move_cases(source, target, quiet=True)
    assert (report.added, report.agreement) == (120, 1.0)
    assert target.count() == 270


def test_other_labels_of_the_same_cases_are_noticed(source: EmbeddedStore, target: EmbeddedStore) -> None:
    for found in source.scan():
        changed = found.case.model_copy(update={"labels": ("something else",)})
        target.add([Entry(changed, found.vectors)])
    with pytest.raises(StoreError, match="finds only 0"):
        move_cases(source, target, quiet=True)


def test_other_vectors_of_the_same_cases_are_noticed(source: EmbeddedStore, target: EmbeddedStore) -> None:
    random = unit(120, seed=3)
    for n, found in enumerate(source.scan()):
        target.add([Entry(found.case, {"one": random[n]})])
    with pytest.raises(StoreError, match="finds only"):
        move_cases(source, target, quiet=True)


def test_a_case_that_does_not_arrive_is_noticed(source: EmbeddedStore, tmp_path: Path) -> None:
    class Forgetful(EmbeddedStore):
        def add(self, entries: Any) -> int:
            return super().add(entry for entry in entries if entry.case != case(5))

    source.add([entry(5, unit(1)[0])])
    with Forgetful(tmp_path / "other.sqlite") as other, pytest.raises(StoreError, match="not all cases of"):
        move_cases(source, other, quiet=True)


def test_an_empty_store_is_moved_too(tmp_path: Path, target: EmbeddedStore) -> None:
    with EmbeddedStore(tmp_path / "empty.sqlite") as empty:
        report = move_cases(empty, target, quiet=True)
    assert (report.cases, report.searches, report.agreement) == (0, 0, 1.0)


@pytest.fixture
def gsco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``gsco("store", …)``: run the command."""
    from gsco.agent.cli import app

    monkeypatch.setenv("GSCO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GSCO_CASE_STORE", raising=False)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_the_command(gsco: Callable[..., Any], source: EmbeddedStore, tmp_path: Path) -> None:
    to = tmp_path / "copy.sqlite"
    done = gsco("store", "move", "--from", str(source.path), "--to", str(to))
    assert done.exit_code == 0, done.output
    assert "120 of 120 cases added" in done.output
    assert "100 random searches find the same in both: 100.00%" in done.output
    assert gsco("store", "move", "--from", str(to), "--to", str(to)).exit_code == 2


def test_backups_are_for_banks_in_weaviate(gsco: Callable[..., Any], source: EmbeddedStore) -> None:
    done = gsco("store", "backup", "today", "--store", str(source.path))
    assert done.exit_code == 2
    assert "gsco store move" in done.output


@pytest.mark.weaviate
def test_to_weaviate_and_back(
    gsco: Callable[..., Any], source: EmbeddedStore, fresh: str, tmp_path: Path
) -> None:
    for start, to in ((str(source.path), fresh), (fresh, str(tmp_path / "back.sqlite"))):
        done = gsco("store", "move", "--from", start, "--to", to)
        assert done.exit_code == 0, done.output
        assert "120 of 120 cases added" in done.output
        assert "find the same in both: 100.00%" in done.output
    with EmbeddedStore(tmp_path / "back.sqlite") as back:
        assert [e.case for e in back.scan()] == [e.case for e in source.scan()]
        assert back.search(unit(5), "one", 10) == source.search(unit(5), "one", 10)


@pytest.mark.weaviate
def test_a_backup_brings_a_deleted_bank_back(
    gsco: Callable[..., Any], source: EmbeddedStore, fresh: str, tmp_path: Path
) -> None:
    from .stores.conftest import remove

    name = f"backup-{tmp_path.name}".lower().replace("_", "-")[:60]
    with open_store(fresh, home=tmp_path, writable=True) as store:  # pyright: ignore[reportGeneralTypeIssues]
        move_cases(source, store, quiet=True)
        before: list[SimilarCase] = store.search(unit(3), "one", 5)
    done = gsco("store", "backup", name, "--store", fresh)
    if "backup-filesystem" in done.output:
        pytest.skip("the server has no module backup-filesystem")
    assert done.exit_code == 0, done.output
    done = gsco("store", "restore", name, "--store", fresh)
    assert done.exit_code == 1
    assert "delete it first" in done.output
    remove(fresh)
    assert gsco("store", "show", "--store", fresh).exit_code == 1
    done = gsco("store", "restore", name, "--store", fresh)
    assert done.exit_code == 0, done.output
    with open_store(fresh, home=tmp_path) as store:  # pyright: ignore[reportGeneralTypeIssues]
        assert store.count() == 120
        assert store.search(unit(3), "one", 5) == before


def test_wrong_names_of_backups() -> None:
    from gsco.tools.stores.weaviate import parse_address
    from gsco.tools.stores.weaviate.backup import back_up

    address = parse_address("weaviate://localhost")
    with pytest.raises(ConfigurationError, match="small letters"):
        back_up(address, "Über/alles")
    with pytest.raises(ConfigurationError, match="no backend 'tape'"):
        back_up(address, "fine", backend="tape")
