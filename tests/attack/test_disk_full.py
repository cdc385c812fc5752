"""A full disk: one sentence with the path, nothing damaged, and work goes on when there is room again."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from gsco import GSCo
from gsco.errors import DiskError, GscoError, StoreError
from PIL import Image

from ..forked import run_command
from .conftest import environment, gsco

pytestmark = [pytest.mark.attack, pytest.mark.slow]

ROOM = 64 * 2**20
BALLAST = "ballast"


class Disk:
    """A small file system of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, leaving: int = 0) -> None:
        """Take the space, but for so many bytes."""
        found = os.statvfs(self.folder)
        with (self.folder / BALLAST).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, found.f_bavail * found.f_frsize - leaving))

    def free(self) -> None:
        (self.folder / BALLAST).unlink()


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
    if (
        not sys.platform.startswith("linux")
        or os.geteuid()
        or subprocess.run(command, check=False).returncode
    ):
        pytest.skip("needs the right to mount a small file system")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def dataset(tmp_path) -> Path:
    folder = tmp_path / "set"
    random = np.random.default_rng(0)
    for label in ("benign", "malignant", "normal"):
        (folder / label).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 255, (96, 96), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (600, 600), dtype=np.uint8))


def test_conversations(disk, tmp_path):
    file = disk.folder / "conversations.sqlite"
    with GSCo.from_settings(home=tmp_path / "home", conversations=str(file), torch_threads=1) as made:
        consultation = made.consult("case")
        assert consultation.send("What can you do?").text
        disk.fill()
        with pytest.raises(DiskError, match=r"conversations\.sqlite cannot be written: .*full"):
            consultation.send("And how?")
        assert consultation.history()[0].text == "What can you do?"
        disk.free()
        assert consultation.send("Go on.").text
        said = [one.text for one in consultation.history() if one.role == "user"]
        assert said[0] == "What can you do?" and said[-1] == "Go on."
    with sqlite3.connect(file) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_conversation_that_cannot_begin(disk, tmp_path):
    disk.fill()
    file = disk.folder / "conversations.sqlite"
    with GSCo.from_settings(home=tmp_path / "home", conversations=str(file), torch_threads=1) as made:
        with pytest.raises(GscoError, match=r"conversations\.sqlite"):
            made.consult("case").send("What can you do?")
        disk.free()
        assert made.consult("case").send("What can you do?").text


def test_images(disk):
    with GSCo.from_settings(home=disk.folder, torch_threads=1) as made:
        disk.fill(leaving=100 * 2**10)
        with pytest.raises(StoreError, match=r"the image store cannot write to .*images.*space"):
            made.images.put(noise(1))
        assert not [path for path in (disk.folder / "images").rglob("*") if path.is_file()]
        disk.free()
        ref = made.images.put(noise(1))
        assert made.images.get(ref).size == (600, 600)


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(disk, tmp_path) -> Run:
    def ran(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run_command(*words, environment=environment(disk.folder / "home", **more), folder=tmp_path)

    return ran


def told(found: subprocess.CompletedProcess[str], disk: Disk) -> None:
    """One plain sentence with the path."""
    last = found.stderr.strip().splitlines()[-1] if found.stderr.strip() else ""
    assert found.returncode == 1, found.stderr + found.stdout
    assert "Traceback" not in found.stderr, found.stderr
    assert last.startswith("gsco: ") and str(disk.folder) in last, found.stderr
    assert any(word in last for word in ("full", "space")), last


def test_building_a_case_store(disk, run, dataset):
    command = ("store", "build", str(dataset), "--task", "busi")
    own = {"GSCO_CASE_STORE": str(disk.folder / "cases")}
    disk.fill(leaving=50 * 2**10)
    told(run(*command, **own), disk)
    disk.free()
    found = run(*command, **own)
    assert found.returncode == 0, found.stderr
    (database,) = (disk.folder / "cases").rglob("*.sqlite")
    with sqlite3.connect(database) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("leaving", [8 * 2**10, 200 * 2**10])
def test_training(disk, run, dataset, leaving):
    (disk.folder / "own").mkdir()
    command = (
        "train",
        "specialist",
        "--dataset",
        str(dataset),
        "--task",
        "busi",
        "--arch",
        "test_resnet",
        "--image-size",
        "64",
        "--epochs",
        "2",
    )
    own = {"GSCO_SPECIALISTS": str(disk.folder / "own")}
    disk.fill(leaving=leaving)
    told(run(*command, **own), disk)
    disk.free()
    found = run(*command, **own)
    assert found.returncode == 0, found.stderr
    assert (disk.folder / "own" / "busi" / "test_resnet" / "card.json").exists()


def test_evaluating(disk, run, dataset):
    command = ("eval", "run", str(dataset), "--task", "busi", "--out", str(disk.folder / "run"))
    disk.fill(leaving=24 * 2**10)
    told(run(*command), disk)
    disk.free()
    found = run(*command)
    assert found.returncode == 0, found.stderr
    assert (disk.folder / "run" / "report.md").exists()


def test_diagnosing(disk, run, tmp_path):
    noise(2).save(tmp_path / "image.png")
    command = ("diagnose", str(tmp_path / "image.png"), "--task", "busi")
    disk.fill(leaving=20 * 2**10)
    told(run(*command), disk)
    disk.free()
    assert "cannot write" not in run(*command, GSCO_GATE="off").stderr


@pytest.mark.parametrize(
    ("limit", "command"),
    [(19, ("diagnose", "IMAGE", "--task", "busi")), (58, ("store", "build", "DATA", "--task", "busi"))],
    ids=["diagnose", "index"],
)
@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_a_limit_on_the_size_of_files(limit, command, dataset, tmp_path):
    """It stops a write in its middle, like a full disk; and needs no rights to try."""
    noise(2).save(tmp_path / "image.png")
    replaced = {"IMAGE": str(tmp_path / "image.png"), "DATA": str(dataset)}
    words = [replaced.get(word, word) for word in command]
    more = {"GSCO_CASE_STORE": str(tmp_path / "cases")} if command[0] == "store" else {"GSCO_GATE": "off"}
    own = environment(tmp_path / "home", **more)
    found = subprocess.run(
        ["bash", "-c", f'ulimit -f {limit}; exec "$@"', "bash", *gsco(*words)],
        env=own,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    last = found.stderr.strip().splitlines()[-1]
    assert found.returncode == 1 and "Traceback" not in found.stderr, found.stderr
    assert last.startswith("gsco: ") and str(tmp_path) in last and "ulimit -f" in last, last
    again = run_command(*words, environment=own, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    for database in tmp_path.rglob("cases.sqlite"):
        with sqlite3.connect(database) as opened:
            assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
