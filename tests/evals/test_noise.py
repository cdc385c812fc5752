"""The noise control over a finished run of small real parts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from gsco.errors import ConfigurationError
from gsco.evals.noise import CONDITIONS, EVERYTHING, IMAGES, ROWS, noise_rows, run_control
from gsco.evals.outcomes import altered, current
from gsco.evals.report import report
from gsco.evals.runner import RunContext as Parts

from .scripted_run import Bench


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "shade"))


def test_each_part_is_another_s_and_nothing_is_asked_twice(bench: Bench, run: Path) -> None:
    parts, natural = Parts(bench.gsco, bench.generalist), current(run)
    bench.generalist.asked = 0
    assert run_control(run, parts, quiet=True)
    rows = noise_rows(run)
    assert [(row.noise, row.arm, row.reference) for row in rows] == list(ROWS)
    assert all(row.n == natural.finished == 10 for row in rows)
    for row in rows:
        assert row.natural == sum(one.right for one in natural.outcomes[row.arm]) / row.n
        assert row.gain.value - row.left.value == pytest.approx(row.natural - row.noised)
    asking = [arm for condition in CONDITIONS for arm in condition.arms if arm not in ("mean", "knn")]
    assert bench.generalist.asked == 10 * len(asking)
    assert run_control(run, parts, quiet=True) and noise_rows(run) == rows
    assert bench.generalist.asked == 10 * len(asking)
    found = report(run, rounds=20)
    assert list(found.runs[0].noise) == rows and "| shade | images | generalist | 10 |" in (
        run / "report.md"
    ).read_text(encoding="utf-8")


def test_the_generalist_sees_another_image(bench: Bench, run: Path) -> None:
    run_control(run, Parts(bench.gsco, bench.generalist), quiet=True)
    alone = {one.case: one.probabilities for one in current(run).outcomes["generalist"]}
    noised = {case: one.probabilities for case, one in altered(run)[f"noise: {IMAGES}", "generalist"].items()}
    # The bench's generalist knows an image only by its id, so that every case says what another one does.
    assert all(noised[case] != alone[case] for case in alone)
    assert sorted(map(str, noised.values())) == sorted(map(str, alone.values()))


def test_the_run_itself_keeps_its_numbers(bench: Bench, run: Path) -> None:
    before = current(run)
    run_control(run, Parts(bench.gsco, bench.generalist), quiet=True)
    after = current(run)
    assert (after.outcomes, after.finished, after.stale) == (before.outcomes, before.finished, before.stale)


def test_another_sample_mixes_other_cases(bench: Bench, run: Path) -> None:
    parts = Parts(bench.gsco, bench.generalist)
    run_control(run, parts, quiet=True)
    bench.generalist.asked = 0
    run_control(run, parts, limit=4, quiet=True)
    rows = noise_rows(run)
    assert {row.n for row in rows} == {4}
    assert bench.generalist.asked == 4 * sum(arm not in ("mean", "knn") for _, arm, _ in ROWS)
    assert len(altered(run)[f"noise: {EVERYTHING}", "gsco-paper"]) == 4, "those of the other sample are stale"


def test_another_generalist_is_refused(bench: Bench, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.generalist, "version", "2", raising=False)
    with pytest.raises(ConfigurationError, match="made with generalist reader 1"):
        run_control(run, Parts(bench.gsco, bench.generalist), quiet=True)
    with pytest.raises(ConfigurationError, match="at least two"):
        monkeypatch.undo()
        run_control(run, Parts(bench.gsco, bench.generalist), limit=1, quiet=True)
