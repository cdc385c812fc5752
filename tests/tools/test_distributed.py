"""Indexing over two machines' worth of Ray, on this one: the same store as without it."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gsco.case import Task
from gsco.errors import ConfigurationError, ImageUnreadable, StoreError
from gsco.models.dataset import Dataset, read_dataset
from gsco.models.specialist.card import Transform
from gsco.models.specialist.specialist import TimmSpecialist
from gsco.tools.distributed import build_index_on_ray
from gsco.tools.indexing import IndexReport, build_index
from gsco.tools.stores.embedded import EmbeddedStore
from PIL import Image

from ..machines import machines

# Each worker is a process that loads torch, which is slow where the machine is busy.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]

ray = pytest.importorskip("ray.data", reason="needs Ray Data: pip install 'gsco[ray]'")

LABELS = ("bright", "dark")
TASK = Task(name="shade", modality="grey picture", options=LABELS, licence="CC0-1.0")
TRAIN = 90


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    with machines() as cluster:
        yield cluster


def specialist(seed: int = 0) -> TimmSpecialist:
    torch.manual_seed(seed)
    return TimmSpecialist.from_timm(
        "test_resnet", LABELS, task="shade", name="one", transform=Transform(size=32)
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Training images, two of them broken and one there twice with another label."""
    folder = tmp_path / "shades"
    folder.mkdir()
    rows = ["path,label,group,split"]
    for n in range(TRAIN):
        noise = np.random.default_rng(n).integers(0, 90, (30, 40), dtype=np.uint8)
        Image.fromarray(noise + 160 * (n % 2 == 0)).save(folder / f"{n:03}.png")
        rows.append(f"{n:03}.png,{LABELS[n % 2]},p{n // 2},train")
    (folder / "003.png").write_bytes(b"no image")
    (folder / "050.png").write_bytes(b"")
    (folder / "080.png").write_bytes((folder / "005.png").read_bytes())
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return read_dataset(folder)


def spread_out(dataset: Dataset, one: TimmSpecialist, path: Path, **options: Any) -> IndexReport:
    with EmbeddedStore(path) as store:
        reopen = functools.partial(EmbeddedStore, path, readonly=True)
        options = {"address": "auto", "workers": 2, "batch_size": 8, "quiet": True, **options}
        return build_index_on_ray(dataset, TASK, [one], store, reopen, **options)


INDEXER = """
import functools, sys
import torch
from pathlib import Path
from gsco.case import Task
from gsco.models.dataset import read_dataset
from gsco.models.specialist.card import Transform
from gsco.models.specialist.specialist import TimmSpecialist
from gsco.tools.distributed import build_index_on_ray
from gsco.tools.stores.embedded import EmbeddedStore

class Loud(EmbeddedStore):
    def add(self, entries):
        added = super().add(entries)
        print("added", added, flush=True)
        return added

torch.manual_seed(0)
labels = ("bright", "dark")
one = TimmSpecialist.from_timm("test_resnet", labels, task="shade", name="one", transform=Transform(size=32))
task = Task(name="shade", modality="grey picture", options=labels, licence="CC0-1.0")
with Loud(sys.argv[2]) as store:
    reopen = functools.partial(EmbeddedStore, sys.argv[2], readonly=True)
    build_index_on_ray(read_dataset(Path(sys.argv[1])), task, [one], store, reopen,
        address=sys.argv[3], workers=2, batch_size=4, quiet=True)
"""


def same(path: Path, whole: Path) -> None:
    with EmbeddedStore(path) as ours, EmbeddedStore(whole) as theirs:
        for mine, other in zip(ours.scan(), theirs.scan(), strict=True):
            assert (mine.case, mine.thumbnail) == (other.case, other.thumbnail)
            np.testing.assert_allclose(mine.vectors["shade/one"], other.vectors["shade/one"], atol=2e-4)


@pytest.fixture
def whole(dataset: Dataset, tmp_path: Path) -> tuple[Path, IndexReport]:
    path = tmp_path / "whole.sqlite"
    with EmbeddedStore(path) as store:
        return path, build_index(dataset, TASK, [specialist()], store, batch_size=8, quiet=True)


def test_a_cluster_that_is_not_there_is_said_so(dataset: Dataset, tmp_path: Path) -> None:
    import ray

    assert not ray.is_initialized()
    with pytest.raises(ConfigurationError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        spread_out(dataset, specialist(), tmp_path / "cases.sqlite", address="127.0.0.1:1")


def test_two_nodes_write_what_one_process_writes(
    two_nodes: Any,
    dataset: Dataset,
    whole: tuple[Path, IndexReport],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path, report = whole
    assert spread_out(read_dataset(Path("shades")), specialist(), tmp_path / "cases.sqlite") == report
    assert (report.added, report.duplicates, report.relabelled) == (TRAIN - 3, 1, ("shades/080.png",))
    assert [broken.path for broken in report.broken] == ["003.png", "050.png"]
    same(tmp_path / "cases.sqlite", path)


def test_after_a_kill_the_same_call_goes_on(
    two_nodes: Any, dataset: Dataset, whole: tuple[Path, IndexReport], tmp_path: Path
) -> None:
    killed = tmp_path / "killed.sqlite"
    command = [sys.executable, "-c", INDEXER, str(dataset.folder), str(killed), two_nodes.address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline().startswith("added ")
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    with EmbeddedStore(killed) as store:
        kept = store.count()
    assert 0 < kept < TRAIN - 3
    report = spread_out(dataset, specialist(), killed)
    assert (report.kept, report.added) == (kept, TRAIN - 3 - kept)
    same(killed, whole[0])


def test_what_goes_wrong_on_a_worker_is_told_as_on_one_machine(
    two_nodes: Any, dataset: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "cases.sqlite"
    spread_out(dataset, specialist(), path, per_label=4)
    with pytest.raises(StoreError, match="made by other weights"):
        spread_out(dataset, specialist(seed=1), path)
    with (
        EmbeddedStore(tmp_path / "other.sqlite") as store,
        pytest.raises(StoreError, match="no case store at"),
    ):
        build_index_on_ray(
            dataset,
            TASK,
            [specialist()],
            store,
            functools.partial(EmbeddedStore, tmp_path / "nowhere.sqlite", readonly=True),
            address="auto",
            workers=2,
            quiet=True,
        )
    for item in dataset.items:
        item.path.write_bytes(b"no image")
    with pytest.raises(ImageUnreadable):
        spread_out(dataset, specialist(), tmp_path / "unreadable.sqlite")
