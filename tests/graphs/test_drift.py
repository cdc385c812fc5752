import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gsco.case import Diagnosis, Evidence, GateReport, Opinion, SimilarCase, TaskKind
from gsco.graphs.collaboration_fit import CollaborationFit, FittedParts
from gsco.graphs.drift import DriftMonitor, DriftScores, drift_scores, find_drift, find_error_drift


def drawn(rng, n, shift=0.0) -> list[DriftScores]:
    return [
        DriftScores(doubt=float(d), distance=float(x))
        for d, x in zip(rng.gamma(1, 0.3, n) + shift, rng.beta(4, 8, n), strict=True)
    ]


def case(doubtful: bool, number: int = 0) -> Diagnosis:
    p = 0.5 if doubtful else 0.99 - 0.0001 * number
    opinion = Opinion(specialist="s", architecture="x", labels=("a",), probabilities={"a": p, "b": 1 - p})
    known = SimilarCase(id="k", sha256="0" * 64, task="t", labels=("a",), similarity=0.8, encoder="e")
    evidence = Evidence(gate=GateReport(task="t"), opinions=(opinion,), similar_cases=(known,))
    return Diagnosis(
        case_id="secret-name", task="t", kind=TaskKind.DIAGNOSIS, labels=("a",), evidence=evidence
    )


def fit() -> CollaborationFit:
    reference = tuple(s for n in range(80) if (s := drift_scores(case(False, n % 40).evidence)))
    return CollaborationFit(
        task="t",
        task_version="1",
        kind=TaskKind.DIAGNOSIS,
        options=("a", "b"),
        rule="fused",
        chosen=("s",),
        parts=FittedParts(),
        cases=80,
        groups=80,
        reference=reference,
    )


def test_cases_like_those_of_the_fit_raise_no_alarm_in_at_most_five_per_cent_of_watches():
    rng = np.random.default_rng(0)
    alarms = sum(find_drift("t", drawn(rng, 300), drawn(rng, 1000)) is not None for _ in range(60))
    assert alarms <= 6, "0.05 of 60 is 3; two standard errors more are 6.4"


def test_a_drastic_change_rings_within_thirty_cases_and_a_mild_one_within_150():
    rng = np.random.default_rng(1)
    drastic = find_drift("t", drawn(rng, 300), drawn(rng, 60, shift=2.0))
    assert drastic is not None and drastic.after <= 30 and drastic.what == "doubt"
    mild = [find_drift("t", drawn(rng, 300), drawn(rng, 150, shift=0.12)) for _ in range(20)]
    assert sum(one is not None for one in mild) >= 16
    assert "less sure" in drastic.words


def test_too_few_cases_of_the_fit_watch_nothing():
    rng = np.random.default_rng(2)
    assert find_drift("t", drawn(rng, 20), drawn(rng, 300, shift=3.0)) is None


def test_reviews_that_correct_more_than_was_wrong_ring():
    held_out = [True] * 285 + [False] * 15
    rng = np.random.default_rng(3)
    assert find_error_drift("t", held_out, list(rng.random(200) < 0.95)) is None
    alarm = find_error_drift("t", held_out, list(rng.random(400) < 0.6))
    assert alarm is not None and "correct more answers" in alarm.words


def test_the_monitor_survives_a_restart_suspends_and_is_reset(tmp_path):
    made = fit()
    monitor = DriftMonitor(tmp_path, "suspend")
    for _ in range(60):
        monitor.watch(case(True), made)
    assert monitor.alarm("t", made) is not None and "left to a person" in monitor.suspended("t", made)
    again = DriftMonitor(tmp_path, "suspend")
    assert again.count("t", made) == 60 and again.suspended("t", made)
    assert DriftMonitor(tmp_path, "warn").suspended("t", made) == ""
    again.reset("t")
    assert again.alarm("t", made) is None and again.count("t", made) == 0 and not again.suspended("t", made)


def test_the_log_holds_numbers_only_and_a_torn_line_is_harmless(tmp_path):
    made, monitor = fit(), DriftMonitor(tmp_path)
    monitor.watch(case(False), made)
    path = tmp_path / "t.jsonl"
    assert "secret-name" not in path.read_text("utf-8") and "0000" not in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8") + '{"fit": "torn', "utf-8")
    again = DriftMonitor(tmp_path)
    again.watch(case(False), made)
    assert DriftMonitor(tmp_path).count("t", made) == 2


def test_nothing_is_watched_without_a_fit_or_where_it_is_off(tmp_path):
    DriftMonitor(tmp_path / "a").watch(case(False), None)
    DriftMonitor(tmp_path / "b", "off").watch(case(False), fit())
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_a_start_with_few_or_tested_cases_tests_nothing_again(tmp_path, monkeypatch):
    from gsco.graphs import drift

    made, monitor = fit(), DriftMonitor(tmp_path)
    for _ in range(60):
        monitor.watch(case(True), made)
    rung = monitor.alarm("t", made)
    monkeypatch.setattr(drift, "find_drift", lambda *given: pytest.fail("tested again"))
    again = DriftMonitor(tmp_path)
    assert rung is not None and again.alarm("t", made) == rung
    assert again.count("t", made) == 60
    again.watch(case(True), made)
    other = DriftMonitor(tmp_path / "new")
    for _ in range(drift.EVERY - 1):
        other.watch(case(True), made)
    assert DriftMonitor(tmp_path / "new").alarm("t", made) is None


def test_one_case_needs_no_statistics(tmp_path):
    code = (
        "import sys; from gsco.graphs.drift import DriftMonitor;"
        "from tests.graphs.test_drift import case, fit;"
        f"monitor = DriftMonitor(__import__('pathlib').Path({str(tmp_path)!r}));"
        "monitor.watch(case(True), fit()); assert monitor.alarm('t', fit()) is None;"
        "print({'mapie', 'sklearn', 'scipy.stats', 'pandas'} & set(sys.modules))"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert found.stdout.strip() == "set()"
