from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from gsco._support.jsonl import JsonlLog, read_log
from gsco.errors import ConfigurationError
from gsco.evals.outcomes import current
from gsco.evals.records import OUTCOMES, Outcome
from gsco.evals.report import JSON, MARKDOWN, report, report_of
from gsco.evals.reports.blocks import ReportTable, sections
from gsco.models.metrics.answers import Answers
from gsco.models.metrics.draws import Kernel, mean_of
from gsco.models.metrics.registry import METRICS, metric

from .scripted_run import PLAN, Bench


@pytest.fixture
def run_folder(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    folder = tmp_path / "shade"
    folder.mkdir()
    for path in finished_run.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_every_arm_stands_in_the_table_with_its_n(run_folder: Path) -> None:
    (one,) = report(run_folder, page=False, rounds=200).runs
    text = (run_folder / MARKDOWN).read_text(encoding="utf-8")
    for score in one.scores.arms:
        accuracy = score.metrics["accuracy"]
        row = f"| {score.arm} | 10 | {accuracy.value:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}] |"
        assert row in text
    assert "10 cases of 6 patients or groups (bright 5, dark 5)" in text
    assert "none of the 10 cases shares an image or a group with the 12 known cases" in text
    assert "profile paper@" in text
    assert re.search(r"\| gsco \| (knn|vote|mean|generalist|gsco-paper) \| [+-]\d", text)
    assert re.search(r"\*\*gsco(:|-paper:| decides).*\*\*", text), "the verdict comes first"


def test_all_tables_have_as_many_cells_as_headings(run_folder: Path) -> None:
    report(run_folder, page=False, rounds=50)
    width = None
    for line in (run_folder / MARKDOWN).read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            width = None
        elif width is None:
            width = line.count("|")
        assert width is None or line.count("|") == width


def test_the_json_holds_the_same_numbers(run_folder: Path) -> None:
    (one,) = report(run_folder, page=False, rounds=50).runs
    (read,) = json.loads((run_folder / JSON).read_text(encoding="utf-8"))["runs"]
    assert read == one.model_dump(mode="json")
    for score in read["scores"]["arms"]:
        assert all(set(estimate) == {"value", "low", "high", "n"} for estimate in score["metrics"].values())


def test_numbers_are_those_of_the_outcomes(run_folder: Path) -> None:
    one = report_of(run_folder, rounds=50)
    said = [o for o in read_log(run_folder / OUTCOMES, Outcome) if o.arm == "knn"]
    knn = next(score for score in one.scores.arms if score.arm == "knn")
    assert knn.metrics["accuracy"].value == sum(o.right for o in said) / 10
    alone = {o.case: o.right for o in read_log(run_folder / OUTCOMES, Outcome) if o.arm == "generalist"}
    both = {o.case: o.right for o in read_log(run_folder / OUTCOMES, Outcome) if o.arm == "gsco"}
    gsco = next(influence for influence in one.scores.influences if influence.arm == "gsco")
    wrong = [case for case, right in alone.items() if not right]
    assert gsco.rescued is not None
    assert (gsco.rescued.n, gsco.rescued.value) == (
        len(wrong),
        sum(both[case] for case in wrong) / len(wrong),
    )


def test_an_unfinished_run_says_so_and_scores_what_all_arms_have_seen(run_folder: Path) -> None:
    log = run_folder / OUTCOMES
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    before = log.read_bytes()
    (one,) = report(run_folder, page=False, rounds=50).runs
    assert (one.finished, one.scores.n) == (9, 9)
    assert "Not finished: 9 of 10 cases" in (run_folder / MARKDOWN).read_text(encoding="utf-8")
    assert log.read_bytes() == before, "a report only reads"


def test_errors_are_listed_and_count_as_wrong(bench: Bench, tmp_path: Path) -> None:
    bench.generalist.mumbles_for = frozenset({bench.image("images/015.png")})
    bench.replay(tmp_path, PLAN.model_copy(update={"arms": ("generalist", "vote")}))
    (one,) = report(tmp_path, page=False, rounds=50).runs
    alone = next(score for score in one.scores.arms if score.arm == "generalist")
    assert (alone.n, alone.errors, alone.unread) == (10, 1, 1)
    assert alone.metrics["auroc"].n == 9
    text = (tmp_path / MARKDOWN).read_text(encoding="utf-8")
    assert "- generalist, images/015.png: AnswerUnparsed: matches no option" in text
    assert "(n = 9)" in text


def test_an_answer_after_an_error_counts(bench: Bench, tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"arms": ("generalist",)})
    bench.generalist.gone_for = frozenset({bench.image("images/015.png")})
    assert bench.replay(tmp_path, plan).errors == 1
    bench.generalist.gone_for = frozenset()
    assert bench.replay(tmp_path, plan).done == 1
    assert report_of(tmp_path, rounds=50).scores.failures == ()


def test_outcomes_of_an_earlier_configuration_are_left_out(bench: Bench, tmp_path: Path) -> None:
    bench.replay(tmp_path, PLAN.model_copy(update={"arms": ("generalist",)}))
    bench.replay(tmp_path, PLAN.model_copy(update={"arms": ("generalist",), "profile": "calibrated"}))
    one = report_of(tmp_path, rounds=50)
    assert (one.stale, one.scores.n) == (10, 10)
    assert str(one.run.configuration["profile"]["profile"]).startswith("calibrated@")


def test_dropped_cases_do_not_count_though_they_were_run_before(run_folder: Path) -> None:
    run = json.loads((run_folder / "run.json").read_text(encoding="utf-8"))
    before = report_of(run_folder, rounds=20)
    gone = next(read_log(run_folder / OUTCOMES, Outcome).__iter__()).case
    run["leakage"]["dropped"] = [gone]
    (run_folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    after = report_of(run_folder, rounds=20)
    assert after.finished == before.finished - 1
    assert after.stale == before.stale + len(run["arms"])


def test_what_was_excluded_is_told(tmp_path: Path) -> None:
    leaky = Bench(tmp_path, splits=("train", "test"))
    with leaky.gsco:
        leaky.replay(tmp_path / "out", PLAN.model_copy(update={"leaks": "exclude", "arms": ("knn",)}))
    report(tmp_path / "out", page=False, rounds=50)
    text = (tmp_path / "out" / MARKDOWN).read_text(encoding="utf-8")
    assert "of 10 cases 10 are themselves in the bank of 22 known cases" in text


def test_several_runs_make_one_report(run_folder: Path) -> None:
    (run_folder.parent / "again").mkdir()
    for path in run_folder.iterdir():
        (run_folder.parent / "again" / path.name).write_bytes(path.read_bytes())
    both = report(run_folder.parent, page=False, rounds=50)
    assert len(both.runs) == 2 and both.overall is not None and both.overall.sets == ("again", "shade")
    assert (run_folder.parent / MARKDOWN).read_text(encoding="utf-8").count("## shade") == 2
    compared = {(one.arm, one.reference) for one in both.overall.contrasts}
    assert {("gsco", "vote"), ("gsco", "gsco-paper"), ("moed", "generalist")} <= compared
    assert not {("moed", "gsco"), ("gsco", "gsco"), ("vote", "knn")} & compared
    assert "on the mean of 2 sets" in (run_folder.parent / MARKDOWN).read_text(encoding="utf-8")


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no run in"):
        report(tmp_path)


def test_many_records_take_seconds(run_folder: Path) -> None:
    first = next(o for o in read_log(run_folder / OUTCOMES, Outcome) if o.arm == "vote")
    run = json.loads((run_folder / "run.json").read_text(encoding="utf-8"))
    (run_folder / "run.json").write_text(
        json.dumps({**run, "arms": {"vote": run["arms"]["vote"]}}), encoding="utf-8"
    )
    (run_folder / OUTCOMES).unlink()
    JsonlLog(run_folder / OUTCOMES, Outcome).append(
        first.model_copy(update={"case": f"{case}.png", "group": str(case)}) for case in range(5000)
    )
    start = time.process_time()
    assert report_of(run_folder, rounds=500).scores.n == 5000
    assert time.process_time() - start < 20


def test_a_registered_metric_is_in_the_report(finished_run: Path) -> None:
    @metric("says_dark", "dark is said")
    def says_dark(given: Answers) -> Kernel:
        return mean_of(given.said[:, 0])

    try:
        found = report_of(finished_run, rounds=20)
        arm = next(one for one in found.scores.arms if one.arm == "vote")
        said = [outcome.labels for outcome in current(finished_run).outcomes["vote"]]
        assert arm.metrics["says_dark"].value == np.mean([labels == ("dark",) for labels in said])
        assert arm.metrics["says_dark"].low <= arm.metrics["says_dark"].high
        assert any(
            "dark is said" in block.headings for block in sections(found) if isinstance(block, ReportTable)
        )
    finally:
        del METRICS["says_dark"]
