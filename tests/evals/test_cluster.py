"""A run over two machines' worth of Ray, on this one: the same records as without it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gsco._support.jsonl import read_log
from gsco.evals.records import OUTCOMES, Outcome
from gsco.evals.runner import CaseSet, replay_cases
from gsco.evals.runner import RunContext as Parts

from ..machines import machines
from . import scripted_run as parts
from .scripted_run import PLAN, SHADE, Bench

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'gsco[ray]'")


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    """A Ray cluster of two nodes, each with one processor."""
    with machines(parts) as cluster:
        yield cluster


def reader(bench: Bench) -> Any:
    from gsco._support.progress import Progress
    from gsco.evals.cases import labelled_examples, read_examples

    def read(split: str, limit: int | None) -> CaseSet:
        examples = labelled_examples(bench.dataset, split, SHADE, limit=limit)
        with Progress("", len(examples), quiet=True) as progress:
            asked = read_examples(examples, bench.gsco.images, progress)
        return CaseSet(bench.dataset.name, bench.dataset.sha256, split, asked)

    return read


def final(out: Path) -> dict[tuple[str, str], Outcome]:
    found = [one.model_copy(update={"seconds": {}}) for one in read_log(out / OUTCOMES, Outcome)]
    assert len({(one.case, one.arm) for one in found}) == len(found), "done twice"
    return {(one.case, one.arm): one for one in found}


def same(out: Path, whole: Path) -> None:
    mine, theirs = final(out), final(whole)
    assert mine.keys() == theirs.keys()
    for key, outcome in theirs.items():
        changes = {"probabilities": None, "confidence": None}
        assert mine[key].model_copy(update=changes) == outcome.model_copy(update=changes)
        assert mine[key].probabilities == pytest.approx(outcome.probabilities, abs=1e-3)


def run(weighing: Bench, folder: Path, out: Path) -> None:
    from gsco.evals.cluster import Cluster

    team = Cluster(None, "auto", build=functools.partial(parts.build, folder))
    own = Parts(weighing.gsco, weighing.generalist, None, team)
    replay_cases(own, reader(weighing), SHADE, out, plan=PLAN, quiet=True)


def test_two_nodes_write_what_one_process_writes(
    two_nodes: Any, weighing: Bench, weighing_folder: Path, weighed_run: Path, tmp_path: Path
) -> None:
    run(weighing, weighing_folder, tmp_path / "out")
    assert weighing.generalist.asked == 0, "all of the work was done elsewhere"
    same(tmp_path / "out", weighed_run)
    nodes = {path.name for path in weighing_folder.glob("actor-*")}
    assert len(nodes) >= 2, "two actors took part"


def test_it_goes_on_where_it_was_stopped(
    two_nodes: Any, weighing: Bench, weighing_folder: Path, weighed_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("run.json", "outcomes.jsonl", "evidence.jsonl"):
        (out / name).write_bytes((weighed_run / name).read_bytes())
    log = out / OUTCOMES
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:100]) + b'{"torn')
    run(weighing, weighing_folder, out)
    same(out, weighed_run)
