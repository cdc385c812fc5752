"""The suite on real small parts: all is asked once, a stopped run goes on, errors are wrong answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from gsco._support.jsonl import read_log
from gsco.errors import ConfigurationError
from gsco.evals.arbitration.conditions import CONDITIONS
from gsco.evals.arbitration.report import curve, report
from gsco.evals.arbitration.suite import arbitrate
from gsco.evals.records import OUTCOMES, Outcome
from gsco.evals.runner import RunContext as Parts

from ..scripted_run import PLAN, SHADE, Bench

CASES = 10
ALTERED = CASES * sum(len(condition.arms) for condition in CONDITIONS)


def run(bench: Bench, out: Path) -> None:
    arbitrate(Parts(bench.gsco, bench.generalist), bench.dataset, SHADE, out / "shade", plan=PLAN, quiet=True)


def answers(out: Path) -> list[Outcome]:
    """The outcomes of altered cases; how long each took plays no part."""
    found = read_log(out / "shade" / OUTCOMES, Outcome)
    return [one.model_copy(update={"seconds": {}}) for one in found if one.condition]


def keep_natural(out: Path) -> None:
    """Leave only the outcomes of the cases as they are."""
    log = out / "shade" / OUTCOMES
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    log.write_text("".join(line for line in lines if '"condition"' not in line), encoding="utf-8")


@pytest.fixture(scope="module")
def finished(shared_bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("arbitration")
    run(shared_bench, out)
    shared_bench.generalist.asked = 0
    return out


def test_every_alteration_is_asked_once(finished: Path) -> None:
    written = answers(finished)
    assert len(written) == len({(a.case, a.condition, a.arm) for a in written}) == ALTERED
    assert not [answer for answer in written if answer.error]


def test_the_generalist_sees_the_forced_label(finished: Path) -> None:
    # The bench's generalist counts how often each option stands in the text.
    said = {(a.case, a.condition): a.labels for a in answers(finished) if a.arm == "gsco-paper"}
    cases = {case for case, _ in said}
    assert all(said[case, "all evidence wrong"] != said[case, "all evidence right"] for case in cases)


def test_a_stopped_run_goes_on(bench: Bench, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "again")
    log = tmp_path / "again" / "shade" / OUTCOMES
    whole = log.read_bytes()
    log.write_bytes(whole[: 2 * len(whole) // 3])
    kept = len(answers(tmp_path / "again"))
    assert 0 < kept < ALTERED
    run(bench, tmp_path / "again")
    assert bench.generalist.asked == ALTERED - kept
    assert sorted(a.model_dump_json() for a in answers(tmp_path / "again")) == sorted(
        a.model_dump_json() for a in answers(finished)
    )


def test_the_report_counts_every_case(finished: Path) -> None:
    made = report(finished, rounds=50)
    assert made.tasks == {"shade": CASES}
    assert made.errors == 0
    rows = {(row.name, row.arm): row for row in made.rows}
    right = rows["truth found: all evidence wrong", "gsco-paper"].mean
    follows = rows["lure followed: all evidence wrong", "gsco-paper"].mean
    assert right is not None and follows is not None
    # There are two options: what is not found is followed.
    assert right.value + follows.value == pytest.approx(1.0)
    assert "truth found: all evidence wrong" in (finished / "arbitration.md").read_text()
    table = curve([finished])
    assert table.count("\n") == 3
    assert finished.name in table


def test_an_error_is_a_wrong_answer_and_is_tried_again(bench: Bench, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "failing"
    shutil.copytree(finished, out)
    keep_natural(out)
    image = bench.image(answers(finished)[0].case)
    bench.generalist.gone_for = frozenset({image})
    run(bench, out)
    failed = [answer for answer in answers(out) if answer.error]
    assert failed
    assert report(out, rounds=50).errors == len(failed)
    bench.generalist.gone_for = frozenset()
    run(bench, out)
    assert report(out, rounds=50).errors == 0


def test_what_is_not_finished_is_said(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no run"):
        report(tmp_path)
    shutil.copytree(finished / "shade", tmp_path / "shade")
    keep_natural(tmp_path)
    with pytest.raises(ConfigurationError, match="not finished"):
        report(tmp_path)
    with pytest.raises(ConfigurationError, match="no finished"):
        curve([tmp_path])
