from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .scripted_run import Bench, write_dataset


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Keep tiny networks from waiting for threads on a busy machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("bench"))
    yield bench
    bench.gsco.close()


@pytest.fixture(scope="session")
def weighing_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with enough validation cases to fit a rule on."""
    folder = tmp_path_factory.mktemp("weighing")
    write_dataset(folder / "squares", val=20, test=12)
    return folder


@pytest.fixture(scope="session")
def shared_weighing(weighing_folder: Path) -> Iterator[Bench]:
    bench = Bench(weighing_folder)
    yield bench
    bench.gsco.close()


@pytest.fixture
def weighing(shared_weighing: Bench) -> Iterator[Bench]:
    """The bench over that data set; the generalist is as new."""
    yield shared_weighing
    shared_weighing.generalist.asked = 0
    shared_weighing.generalist.fails = 0.0


@pytest.fixture(scope="session")
def weighed_run(shared_weighing: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run with all arms that went through without a stop."""
    out = tmp_path_factory.mktemp("weighed") / "shade"
    shared_weighing.replay(out)
    shared_weighing.generalist.asked = 0
    return out


@pytest.fixture
def bench(shared_bench: Bench) -> Iterator[Bench]:
    """Small real parts; the generalist is as new."""
    yield shared_bench
    shared_bench.generalist.asked = 0
    shared_bench.generalist.gone_for = shared_bench.generalist.mumbles_for = frozenset()
    shared_bench.generalist.fails = 0.0


@pytest.fixture(scope="session")
def finished_run(shared_bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run that went through without a stop."""
    out = tmp_path_factory.mktemp("run") / "shade"
    shared_bench.replay(out)
    shared_bench.generalist.asked = 0
    return out
