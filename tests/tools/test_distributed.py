"""Indexing over two machines' worth of Ray, on this one: the same store as without it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gsco.case import Task
from gsco.models.dataset import Dataset, read_dataset
from gsco.models.specialist.card import Transform
from gsco.models.specialist.specialist import Specialist
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


def specialist(seed: int = 0) -> Specialist:
    torch.manual_seed(seed)
    return Specialist.from_timm("test_resnet", LABELS, task="shade", name="one", transform=Transform(size=32))


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


def spread_out(dataset: Dataset, one: Specialist, path: Path, **options: Any) -> IndexReport:
    with EmbeddedStore(path) as store:
        reopen = functools.partial(EmbeddedStore, path, readonly=True)
        options = {"address": "auto", "workers": 2, "batch_size": 8, "quiet": True, **options}
        return build_index_on_ray(dataset, TASK, [one], store, reopen, **options)


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
