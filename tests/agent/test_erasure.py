"""What is deleted is gone: from every file of GSCO_HOME, byte by byte."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from gsco import GSCo
from gsco.agent.cli import app
from gsco.agent.erasure import forget
from gsco.errors import ConfigurationError, ImageMissing, ThreadError
from gsco.images import ImageStore, pixel_hash
from gsco.models.specialist.specialist import TimmSpecialist
from gsco.settings import Settings
from gsco.tools.stores.embedded import EmbeddedStore
from gsco.tools.stores.protocol import Entry, KnownCase
from PIL import Image
from typer.testing import CliRunner

from .server.conftest import make_gsco

__all__ = ["make_gsco"]

PATIENT = "patient-Zybulska-0815"
QUESTION = "Does Quexling have the brumpf?"
REPORT = "A wholly unusual vorpelism of the left side."


def found_in(folder: Path, *needles: str | bytes) -> list[str]:
    """The files that hold one of these, in their bytes or their names."""
    wanted = [needle.encode() if isinstance(needle, str) else needle for needle in needles]
    return [
        f"{path.relative_to(folder)}: {needle[:40]!r}"
        for path in folder.rglob("*")
        for needle in wanted
        if needle in str(path).encode() or (path.is_file() and needle in path.read_bytes())
    ]


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (48, 40), dtype=np.uint8))


def like(seed: int) -> Image.Image:
    """Another picture that is nearest to one."""
    image = picture(seed)
    image.putpixel((0, 0), 255 - image.getpixel((0, 0)))  # pyright: ignore[reportOperatorIssue]
    return image


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def gsco(make_gsco: Callable[..., GSCo], home: Path) -> Iterator[GSCo]:
    with make_gsco(home=home, gate="off", case_store=str(home / "cases")) as made:
        yield made


@pytest.fixture
def settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("GSCO_HOME", str(home))
    monkeypatch.delenv("GSCO_CASE_STORE", raising=False)
    return Settings(home=home)


@pytest.fixture
def known(home: Path, specialist_folders: Path) -> list[bytes]:
    """Fill ``GSCO_HOME/cases`` with cases of the patient and of others; bytes that are the patient's."""
    embedder = TimmSpecialist.load(specialist_folders / "shade" / "own")
    secrets: list[bytes] = []
    with EmbeddedStore(home / "cases" / "cases.sqlite") as store:
        for n in range(40):
            image, own = picture(n), n % 8 == 3
            vector = embedder.embed([image])[0]
            jpeg = BytesIO()
            image.resize((32, 32)).save(jpeg, "JPEG")
            case = KnownCase(
                sha256=pixel_hash(image),
                task="shade",
                labels=("dark",),
                group=PATIENT if own else f"other-{n}",
                report=REPORT if own else "An ordinary report.",
            )
            store.add([Entry(case, {"shade/own": vector}, jpeg.getvalue())])
            if own:
                secrets += [
                    case.sha256.encode(),
                    jpeg.getvalue()[600:700],
                    vector.astype("<f2").tobytes()[:60],
                ]
    return secrets


def stored(home: Path, image: Image.Image) -> bytes:
    """Some bytes of an image as the image store keeps it."""
    sha256 = pixel_hash(image)
    return (home / "images" / sha256[:2] / sha256[2:4] / f"{sha256}.png").read_bytes()[400:500]


@pytest.mark.attack
def test_a_patient_is_forgotten_in_every_file(
    gsco: GSCo, home: Path, settings: Settings, known: list[bytes]
) -> None:
    own, other = picture(1000), picture(1001)
    gsco.diagnose(own, task="shade", group=PATIENT, context=QUESTION)
    talk = gsco.consult("one", user="ana", group=PATIENT, context=QUESTION, task="shade")
    talk.send(QUESTION, [own, picture(1002)])
    talk.send("Anything else about the brumpf?")
    gsco.consult("two", user="ben", group="other", task="stripes").send("What is this?", [other])
    (home / "uploads").mkdir(exist_ok=True)
    (home / "uploads" / "x.png").write_bytes(b"png" + PATIENT.encode())
    mine = [PATIENT, "Quexling", "brumpf", REPORT, *known, pixel_hash(own), pixel_hash(picture(1002))]
    mine += [hashlib.sha256(PATIENT.encode()).hexdigest(), stored(home, own), stored(home, picture(1002))]
    for needle in mine:
        assert found_in(home, needle), needle
    theirs = [pixel_hash(other), stored(home, other), "other-1", "An ordinary report."]
    gsco.close()

    done = CliRunner().invoke(app, ["forget", "--group", PATIENT, "--yes", "--citing"])
    assert done.exit_code == 0, done.output
    assert "erased: 5 cases, 1 conversations, 2 images" in done.output
    assert found_in(home, *mine) == []
    for needle in theirs:
        assert found_in(home, needle), needle
    with EmbeddedStore(home / "cases" / "cases.sqlite") as store:
        assert store.verify().cases == 35


@pytest.mark.attack
def test_a_deleted_conversation_leaves_nothing(gsco: GSCo, home: Path, known: list[bytes]) -> None:
    shared, own = picture(1000), picture(1001)
    first, second = (gsco.consult(name, task="shade") for name in ("first", "second"))
    first.send(QUESTION, [shared, own])
    second.send("What is this?", [shared])
    mine = ["Quexling", "brumpf", pixel_hash(own), stored(home, own)]
    for needle in mine:
        assert found_in(home, needle), needle
    first.delete()
    assert found_in(home, *mine) == []
    # The other conversation still has its image, and goes on.
    second.send("And what is this?")
    assert pixel_hash(shared) in str(found_in(home, stored(home, shared)))
    second.delete()
    assert found_in(home, pixel_hash(shared)) == []
    with pytest.raises(ImageMissing):
        gsco.images.get(f"img-{pixel_hash(shared)[:12]}")


def test_a_case_of_the_patient_that_others_cite_is_named(
    gsco: GSCo, home: Path, settings: Settings, known: list[bytes]
) -> None:
    gsco.consult("two", user="ben", task="shade").send("Diagnose this.", [like(3)])
    gsco.close()
    with pytest.raises(ConfigurationError, match=r"nothing was erased.*ben/two.*--citing"):
        forget(settings, PATIENT)
    assert found_in(home, REPORT)
    kept = forget(settings, PATIENT, citing=False)
    assert (kept.cases, [(key.user, key.thread) for key in kept.citing]) == (5, [("ben", "two")])


@pytest.mark.attack
def test_conversations_that_cite_the_patient_are_erased_on_request(
    gsco: GSCo, home: Path, settings: Settings, known: list[bytes]
) -> None:
    gsco.consult("two", user="ben", task="shade").send("Diagnose this.", [like(3)])
    gsco.close()
    erased = forget(settings, PATIENT, citing=True)
    assert [(key.user, key.thread) for key in erased.conversations] == [("ben", "two")]
    assert found_in(home, REPORT, PATIENT, *known) == []


def test_an_image_in_use_is_not_removed(store: ImageStore) -> None:
    ref = store.put(picture(5))
    with store.held([ref], "p"):
        assert not store.discard(ref.sha256)
        assert store.of_group("p") == [ref.sha256]
    assert store.get(ref).size == (40, 48)
    assert store.discard(ref.sha256)
    assert store.of_group("p") == []
    assert not store.discard(ref.sha256)
    assert ref not in store
    with pytest.raises(ImageMissing):
        store.resolve(ref.id)
    assert store.get(store.put(picture(5))).size == (40, 48)


def test_an_empty_group_is_refused(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="give a group"):
        forget(settings, "")


def test_a_log_that_another_program_keeps_is_told(gsco: GSCo, home: Path, settings: Settings) -> None:
    gsco.consult("one", group=PATIENT, task="shade").send(QUESTION, [picture(7)])
    gsco.close()
    path = home / "conversations.sqlite"
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM checkpoints").fetchall()
        with pytest.raises(ThreadError, match="stop it and run the same command again"):
            forget(settings, PATIENT)
    forget(settings, PATIENT)
    assert found_in(home, PATIENT, "Quexling") == []
