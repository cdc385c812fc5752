"""Conversations in a real Postgres: ``GSCO_TEST_POSTGRES_URL``, or a server that ``initdb`` makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gsco import GSCo
from gsco.agent.erasure import forget
from gsco.case import ReviewDecision
from gsco.errors import ConversationsUnavailable, ThreadError
from gsco.models.mini.samples import samples
from gsco.settings import Settings

ACCOUNT = "postgres"
"""Whom it runs as where the tests are run by root, which it refuses."""


def programs() -> Path | None:
    """Where the server's programs are; Debian puts them beside its versions."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    return max((path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    if given := os.environ.get("GSCO_TEST_POSTGRES_URL"):
        yield given
        return
    bin = programs()
    if bin is None:
        pytest.skip("no Postgres: install one (Debian: postgresql), or set GSCO_TEST_POSTGRES_URL")
    account = ACCOUNT if os.geteuid() == 0 else None
    # A socket's path may have 107 signs, so not pytest's own folder.
    with tempfile.TemporaryDirectory(prefix="gsco-pg-") as home:
        if account:
            try:
                shutil.chown(home, account)
            except LookupError:
                pytest.skip(f"Postgres does not run as root, and there is no account {account}")
        data = Path(home, "data")

        def run(*command: str) -> None:
            subprocess.run(command, check=True, capture_output=True, cwd=home, timeout=120, user=account)

        run(str(bin / "initdb"), "--auth=trust", "--username=gsco", "--no-sync", str(data))
        listening = f"-c listen_addresses= -c unix_socket_directories={home} -c fsync=off"
        run(str(bin / "pg_ctl"), "-D", str(data), "-o", listening, "-l", f"{home}/log", "-w", "start")
        try:
            yield f"postgresql://gsco@/postgres?host={home}"
        finally:
            run(str(bin / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")


@pytest.fixture
def stoppable(database: str) -> Iterator[Callable[[str], None]]:
    """``stoppable("stop")`` and ``stoppable("start")`` for the server that the tests made."""
    if os.environ.get("GSCO_TEST_POSTGRES_URL"):
        pytest.skip("the server belongs to somebody else")
    home = Path(database.rpartition("host=")[2])
    account = ACCOUNT if os.geteuid() == 0 else None
    bin = programs()
    assert bin is not None

    def do(what: str) -> None:
        listening = f"-c listen_addresses= -c unix_socket_directories={home} -c fsync=off"
        options = ["-m", "immediate"] if what == "stop" else ["-o", listening, "-l", f"{home}/log"]
        command = [str(bin / "pg_ctl"), "-D", str(home / "data"), *options, "-w", what]
        subprocess.run(command, check=True, capture_output=True, cwd=home, timeout=120, user=account)

    yield do


def opened(database: str, home: Path, **more) -> GSCo:
    return GSCo.from_settings(home=home, conversations=database, torch_threads=1, **more)


def test_conversations_are_kept_listed_pruned_and_deleted(database: str, tmp_path: Path):
    import psycopg

    image = samples("busi")[0].path
    with opened(database, tmp_path, review="always") as gsco:
        turn = gsco.consult("one", user="ana").send("What is the diagnosis?", [image])
        assert turn.review is not None
        gsco.consult("one", user="ben").send("Hello.")

    with opened(database, tmp_path, review="always") as gsco:
        consultation = gsco.consult("one", user="ana")
        assert [one.status for one in gsco.threads(user="ana")] == ["review"]
        done = consultation.resume(ReviewDecision(action="approve", reviewer="Dr A"))
        assert done.diagnosis.review.decision.reviewer == "Dr A"
        consultation.send("How sure are you?")
        assert [one.turns for one in gsco.threads(user="ana")] == [2]
        assert gsco.consult("one", user="ben").history()[0].text == "Hello."
        with psycopg.connect(database) as connection:
            kept = dict(
                connection.execute("SELECT thread_id, count(*) FROM checkpoints GROUP BY 1").fetchall()
            )
            assert kept == {"ana/one": 1, "ben/one": 1}, "only the latest checkpoint of each"
            [(size,)] = connection.execute("SELECT sum(length(blob)) FROM checkpoint_blobs").fetchall()
            assert size < 100_000, "no pixels"
        gsco.delete_thread("one", user="ana")
        assert gsco.threads(user="ana") == [] and len(gsco.threads(user="ben")) == 1


@pytest.mark.attack
def test_a_patient_is_forgotten(database: str, tmp_path: Path):
    import psycopg

    image = samples("busi")[0].path
    with opened(database, tmp_path) as gsco:
        for group in ("Zybulska-1", "Zybulska-2"):
            gsco.consult(group, user="ana", group=group).send("What is the diagnosis?", [image])
        ref = gsco.images.put(image)
        images = gsco.images
    settings = Settings.model_validate({"home": tmp_path, "conversations": database})
    first = forget(settings, "Zybulska-1", citing=False)
    assert [key.thread for key in first.conversations] == ["Zybulska-1"]
    assert (first.images, first.kept_images) == (0, 1) and ref in images
    second = forget(settings, "Zybulska-2", citing=False)
    assert (second.images, second.kept_images) == (1, 0) and ref not in images
    with psycopg.connect(database) as connection:
        assert connection.execute(
            "SELECT count(*) FROM checkpoint_blobs WHERE position('Zybulska'::bytea IN blob) > 0"
        ).fetchone() == (0,)
        assert connection.execute(
            "SELECT count(*) FROM checkpoint_writes WHERE position('Zybulska'::bytea IN blob) > 0"
        ).fetchone() == (0,)
        assert connection.execute(
            "SELECT count(*) FROM checkpoints WHERE thread_id LIKE 'ana/Zy%'"
        ).fetchone() == (0,)


def test_a_database_that_is_not_there(tmp_path: Path):
    with (
        opened("postgresql://gsco:secret@127.0.0.1:1/none", tmp_path) as gsco,
        pytest.raises(ThreadError, match="GSCO_CONVERSATIONS") as caught,
    ):
        gsco.threads()
    assert "secret" not in str(caught.value)


@pytest.mark.attack
def test_a_database_that_goes_away_in_the_middle(database: str, tmp_path: Path, stoppable):
    with opened(database, tmp_path) as gsco:
        consultation = gsco.consult("gone", user="ana")
        consultation.send("First?")
        stoppable("stop")
        try:
            with pytest.raises(ConversationsUnavailable, match="database of conversations"):
                consultation.send("Second?")
            with pytest.raises(ConversationsUnavailable):
                gsco.threads(user="ana")
        finally:
            stoppable("start")
        assert consultation.send("Third?").text
        said = [one.text for one in consultation.history() if one.role == "user"]
        assert said[0] == "First?" and said[-1] == "Third?"
