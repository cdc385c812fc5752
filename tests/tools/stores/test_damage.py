"""A case store whose file was damaged says so; one of an older version is brought up to date."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest
from gsco.agent.cli import app
from gsco.errors import StoreError
from gsco.tools.stores.embedded import EmbeddedStore
from gsco.tools.stores.verification import StoreCheck
from typer.testing import CliRunner

from .damage import CASES, DAMAGES, WIDTH, answers, make_store, outcome


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "whole.sqlite"
    make_store(path)
    return path


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    path = tmp_path / "cases.sqlite"
    path.write_bytes(whole.read_bytes())
    return path


def older(path: Path) -> Path:
    """Make the file one of schema 1, which had no checksums."""
    with closing(sqlite3.connect(path)) as sql:
        for (trigger,) in sql.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            sql.execute(f"DROP TRIGGER {trigger}")
        for table in ("cases", "thumbnails", "vectors"):
            sql.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
        sql.execute("DROP TABLE blocks")
        sql.execute("PRAGMA user_version = 1")
    return path


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as sql:
        return sql.execute("PRAGMA user_version").fetchone()[0]


def change(path: Path, statement: str, *values: object) -> None:
    """Change a row behind the store's back, as a consistent file that SQLite finds nothing wrong with."""
    with closing(sqlite3.connect(path)) as sql:
        sql.execute(statement, values)
        sql.commit()
        assert sql.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.attack
def test_no_random_damage_gives_other_neighbours(whole: Path, tmp_path: Path) -> None:
    expected, file = answers(whole), whole.read_bytes()
    outcomes = Counter(outcome(file, expected, tmp_path, seed) for seed in range(100 * len(DAMAGES)))
    assert set(outcomes) == {"same", "refused"}, outcomes
    assert outcomes["refused"] > 300


@pytest.mark.attack
@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE cases SET labels = '[\"other\"]' WHERE row = 7", "was changed"),
        ("UPDATE cases SET patient = 'patient 99' WHERE row = 7", "was changed"),
        ("UPDATE cases SET task = 'skin' WHERE row = 7", "was changed"),
        (
            "UPDATE vectors SET halves = (SELECT halves FROM vectors WHERE row = 9) WHERE row = 7",
            "was changed",
        ),
        ("UPDATE vectors SET halves = zeroblob(48) WHERE row = 7", "was changed"),
        ("UPDATE vectors SET halves = 'text' WHERE row = 7", "damaged"),
        ("UPDATE vectors SET checksum = NULL WHERE row = 7", "was changed"),
        ("UPDATE encoders SET name = 'other' WHERE name = 'one'", "was changed|no vectors of encoder"),
        ("UPDATE blocks SET number = number - 1 WHERE block LIKE 'vectors%'", "lost or changed"),
        ("DELETE FROM blocks", "lost or changed"),
        ("DELETE FROM sqlite_sequence", "damaged"),
        ("UPDATE sqlite_sequence SET seq = 0", "lost or changed"),
        ("DELETE FROM encoders", "lost its case|an encoder was lost"),
    ],
)
def test_a_row_that_was_changed_is_noticed(copy: Path, statement: str, what: str) -> None:
    change(copy, statement)
    with pytest.raises(StoreError, match=what):
        answers(copy)


@pytest.mark.attack
@pytest.mark.parametrize("table", ["cases", "vectors", "thumbnails"])
def test_a_row_that_was_lost_is_noticed(copy: Path, table: str) -> None:
    with closing(sqlite3.connect(copy)) as sql:
        sql.execute(f"DROP TRIGGER {table}_delete")
        sql.execute(
            f"DELETE FROM {table} WHERE row = 7" if table != "thumbnails" else "DELETE FROM thumbnails"
        )
        sql.commit()
    with EmbeddedStore(copy, readonly=True) as store, pytest.raises(StoreError, match="lost"):
        store.verify()


def test_blocks_follow_every_change(copy: Path) -> None:
    with EmbeddedStore(copy) as store:
        assert store.verify() == StoreCheck(CASES, CASES + CASES * 3 // 4, CASES)
        some = [entry for entry in store.scan() if entry.case.group in ("patient 3", "patient 40")]
        assert store.delete([entry.case.id for entry in some]) == 6
        left = store.verify()
        assert (left.cases, left.thumbnails) == (CASES - 6, CASES - 6)
        assert store.add([*some, *some]) == 6
        assert store.verify() == StoreCheck(CASES, CASES + CASES * 3 // 4, CASES)
        query = np.eye(WIDTH, dtype=np.float32)[:2]
        assert len(store.search(query, "one", 5)[0]) == 5


def test_an_older_file_is_brought_up_to_date(copy: Path, whole: Path) -> None:
    older(copy)
    assert version(copy) == 1
    assert answers(copy) == answers(whole)
    assert version(copy) == 2
    with EmbeddedStore(older(copy)) as store:
        assert store.verify().cases == CASES
        assert store.delete([next(iter(store.scan())).case.id]) == 1
        assert store.verify().cases == CASES - 1


READ = """
import os, sys
from gsco.tools.stores.embedded import EmbeddedStore
if os.geteuid() == 0:
    os.setuid(65534)
store = EmbeddedStore(sys.argv[1], readonly=True)
print(store.verify())
"""


def test_an_older_file_that_cannot_be_written_is_read_through_a_copy(copy: Path) -> None:
    older(copy)
    copy.chmod(0o444)
    copy.parent.chmod(0o555)
    for folder in copy.parents:
        if folder.stat().st_uid == os.geteuid() and Path(gettempdir()) in folder.parents:
            folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(copy)], capture_output=True, text=True, check=False
    )
    copy.parent.chmod(0o755)
    assert f"cases={CASES}" in done.stdout, done.stderr
    assert version(copy) == 1


@pytest.mark.attack
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE vectors SET halves = zeroblob(48) WHERE row = 7",
        "UPDATE vectors SET halves = x'00' WHERE row = 7",
        "UPDATE vectors SET halves = NULL WHERE row = 7",
        "UPDATE vectors SET case_row = 9999 WHERE row = 7",
    ],
)
def test_an_older_file_that_is_damaged_is_not_brought_up_to_date(copy: Path, statement: str) -> None:
    older(copy)
    with closing(sqlite3.connect(copy)) as sql:
        sql.execute("PRAGMA writable_schema = ON")
        sql.execute("UPDATE sqlite_master SET sql = replace(sql, 'halves BLOB NOT NULL', 'halves BLOB')")
        sql.commit()
    change(copy, statement)
    for _ in range(2):
        with pytest.raises(StoreError, match="damaged"):
            EmbeddedStore(copy, readonly=True).count()
    assert version(copy) == 1


def test_the_command_that_verifies(copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GSCO_HOME", str(tmp_path / "home"))
    for group in ("store", "index"):
        done = CliRunner().invoke(app, [group, "verify", "--store", str(copy)])
        assert done.exit_code == 0, done.output
        assert "240 cases" in done.stdout and "420 vectors" in done.stdout
    change(copy, "UPDATE thumbnails SET jpeg = x'ff' WHERE case_row = 5")
    done = CliRunner().invoke(app, ["store", "verify", "--store", str(copy)])
    assert done.exit_code == 1
    assert "thumbnail" in done.output and "restore it from a backup" in " ".join(done.output.split())
    done = CliRunner().invoke(app, ["store", "verify"])
    assert done.exit_code == 0 and "bundled" in done.stdout
