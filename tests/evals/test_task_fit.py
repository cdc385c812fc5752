"""A task's rule: what is fitted on which cases, what is measured on others, and what uses it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from gsco._support.jsonl import read_log
from gsco.errors import ConfigurationError
from gsco.evals.arms import best_single_source
from gsco.evals.fit_command import chosen_candidate, next_steps, summary_lines
from gsco.evals.leakage import check_training
from gsco.evals.records import OUTCOMES, Outcome
from gsco.evals.runner import CaseSet, replay_cases
from gsco.evals.runner import RunContext as Parts
from gsco.evals.suites import Member
from gsco.evals.task_fit import LabelledCase, arms_to_run, fit_task, halves, write_fit
from gsco.graphs.collaboration_fit import CollaborationFit, HeldOutScores, read_fit
from gsco.models.specialist.card import DataSummary
from gsco.settings import Settings
from gsco.tasks import TaskBook

from .scripted_run import PLAN, SHADE, Bench

CASES, VALIDATED = 24, 40


@pytest.fixture(scope="module")
def fit_plan():
    return PLAN.model_copy(update={"arms": arms_to_run(asking=True), "split": "val", "refuse_training": True})


@pytest.fixture
def known_task(weighing: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    text = 'name = "shade"\nmodality = "grey square"\noptions = ["dark", "bright"]\nabstain_below = 0.6\n'
    (folder / "shade.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(weighing.gsco, "tasks", TaskBook(folder))


def member(bench: Bench, split: str = "val") -> Member:
    return Member(dataset=str(bench.dataset.folder), task="shade", split=split)


@pytest.mark.usefixtures("known_task")
def test_a_rule_from_cases_to_the_decisions_that_use_it(weighing: Bench, fit_plan, tmp_path: Path) -> None:
    parts = Parts(weighing.gsco, weighing.generalist)
    found = fit_task(parts, member(weighing), tmp_path / "work", fit_plan, certify_split="test", quiet=True)
    assert (found.cases, found.task, found.data) == (VALIDATED, "shade", weighing.dataset.sha256)
    assert weighing.generalist.asked == VALIDATED + CASES
    names = {one.name for one in found.candidates}
    assert {"one", "two", "similar cases", "mean", "pool", "stacking", "generalist", "adaptive"} <= names
    assert set(found.parts.specialists) == {"one", "two"} and found.parts.store and found.parts.encoder
    assert found.parts.generalist == "reader 1" and found.parts.profile.startswith("paper@")
    assert len(found.held_out) == CASES // 2, "two test images share a group, and one of each counts"
    assert found.held_out.independent
    assert len(found.reference) == VALIDATED, "one of each patient, for the watch over incoming cases"

    weighing.generalist.asked = 0
    again = fit_task(parts, member(weighing), tmp_path / "work", fit_plan, certify_split="test", quiet=True)
    assert weighing.generalist.asked == 0, "nothing is asked twice"
    assert again == found

    path = write_fit(found, tmp_path / "specialists")
    assert path == tmp_path / "specialists" / "shade" / "collaboration.json"
    assert read_fit([tmp_path / "specialists"], "shade") == found
    lines = [*summary_lines(found), *next_steps(found, path, tmp_path / "specialists", Settings(), "squares")]
    text = "\n".join(lines)
    assert chosen_candidate(found) in text and "Nothing can be promised" in text
    assert "GSCO_SPECIALISTS=" in text and "gsco eval run squares" in text

    weighing.fits["shade"] = found
    try:
        decided_by(weighing, found, tmp_path / "run")
    finally:
        weighing.fits.clear()


def decided_by(bench: Bench, fit: CollaborationFit, out: Path) -> None:
    """The arm gsco decides as a diagnosis does, and stacking by what was fitted."""
    plan = PLAN.model_copy(update={"arms": ("specialists", "knn", "stacking", "gsco-paper", "gsco")})
    card = bench.replay(out, plan).card
    assert "stacking" in card.arms and card.best_source == best_single_source(fit, {}, True)[0]
    assert card.fit is not None and card.fit.held_out == HeldOutScores()
    outcomes = {one.case: one for one in read_log(out / OUTCOMES, Outcome) if one.arm == "gsco"}
    assert len(outcomes) == CASES
    for item in bench.dataset.split("test"):
        name = item.path.relative_to(bench.dataset.folder).as_posix()
        said = bench.gsco.diagnose(item.path, task=SHADE, gate="off", neighbours=3, group=item.group)
        assert said.labels == outcomes[name].labels
        assert said.confidence == pytest.approx(outcomes[name].confidence, abs=1e-6)
        assert said.abstained == outcomes[name].abstained
        assert (said.generalist_answer is not None) == bool(outcomes[name].calls)
    # Other specialists: what was stacked is no longer of these.
    versions = {name: "0" * 12 for name in fit.parts.specialists}
    parts = fit.parts.model_copy(update={"specialists": versions})
    bench.fits["shade"] = fit.model_copy(update={"parts": parts})
    with pytest.raises(ConfigurationError, match="one, two changed since the fit"):
        bench.replay(out, plan)


@pytest.mark.usefixtures("known_task")
def test_cases_without_an_answer_are_no_ground_for_a_rule(weighing: Bench, fit_plan, tmp_path: Path) -> None:
    weighing.generalist.fails = 0.9
    parts = Parts(weighing.gsco, weighing.generalist)
    plan = fit_plan.model_copy(update={"retries": 0})
    with pytest.raises(ConfigurationError, match=r"of 40 cases have no answer.*same command again"):
        fit_task(parts, member(weighing), tmp_path / "work", plan, quiet=True)


@pytest.mark.usefixtures("known_task")
def test_cases_that_the_store_knows_are_refused(weighing: Bench, fit_plan, tmp_path: Path) -> None:
    parts = Parts(weighing.gsco, weighing.generalist)
    plan = fit_plan.model_copy(update={"split": "train"})
    with pytest.raises(ConfigurationError, match="12 are in the case bank"):
        fit_task(parts, member(weighing, "train"), tmp_path / "work", plan, quiet=True)


def test_cases_that_trained_a_specialist_are_refused(shared_bench: Bench) -> None:
    panel = shared_bench.gsco.panels["shade"]
    one = panel.members["one"]
    before = one.card
    one.card = before.model_copy(update={"data": DataSummary(name="squares", sha256="1" * 64)})
    try:
        check_training(panel, "squares", "2" * 64, "val")
        check_training(panel, "other", "2" * 64, "train")
        for name, sha256 in (("squares", "2" * 64), ("other", "1" * 64)):
            with pytest.raises(ConfigurationError, match="trained the specialists one"):
                check_training(panel, name, sha256, "train")
    finally:
        one.card = before


def labelled(number: int, each: int) -> list[LabelledCase]:
    from gsco.case import Evidence, GateReport

    evidence = Evidence(gate=GateReport(task="shade"))
    return [
        LabelledCase(f"{group}-{image}", str(group), "0" * 64, ("dark",), evidence, None)
        for group in range(number)
        for image in range(each)
    ]


def test_half_of_the_groups_are_kept_for_the_certificate() -> None:
    fitting, kept = halves(labelled(200, 2))
    assert (len(fitting), len(kept)) == (200, 200)
    assert not {case.group for case in fitting} & {case.group for case in kept}
    assert halves(labelled(200, 2)) == (fitting, kept)
    assert halves(labelled(199, 2)) == (labelled(199, 2), [])


def test_a_fit_without_held_out_cases_promises_nothing(weighing: Bench, tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"arms": arms_to_run(asking=False), "split": "val"})
    dataset = weighing.dataset

    def read(split: str, limit: int | None) -> CaseSet:
        from gsco._support.progress import Progress
        from gsco.evals.cases import labelled_examples, read_examples

        examples = labelled_examples(dataset, split, SHADE)
        with Progress("", len(examples), quiet=True) as progress:
            asked = read_examples(examples, weighing.gsco.images, progress)
        return CaseSet(dataset.name, dataset.sha256, split, asked)

    parts = replace(Parts(weighing.gsco, None))
    replay_cases(parts, read, SHADE, tmp_path / "val", plan=plan, quiet=True)
    assert weighing.generalist.asked == 0
    card = json.loads((tmp_path / "val" / "run.json").read_text(encoding="utf-8"))
    assert list(card["arms"]) == ["evidence"]
