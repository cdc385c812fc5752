"""Arms that are fitted on validation cases: what they learn, when they ask, and what they share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gsco.errors import ConfigurationError
from gsco.evals.fitting import Consultation, consultation, read_fitted, similar_shares, sources_of
from gsco.evals.records import EVIDENCE, OUTCOMES, CaseEvidence, Outcome, read_run_card
from gsco.evals.runner import VALIDATION
from gsco.models.journal import read_log

from .bench import PLAN, SHADE, Bench
from .test_pooling import voices

CASES = 24
VALIDATED = 40


def outcomes(out: Path, arm: str) -> dict[str, Outcome]:
    return {one.case: one for one in read_log(out / OUTCOMES, Outcome) if one.arm == arm}


def evidence(out: Path) -> dict[str, CaseEvidence]:
    return {one.case: one for one in read_log(out / EVIDENCE, CaseEvidence)}


def test_all_arms_have_an_outcome_for_every_case(weighed_run: Path) -> None:
    arms = read_run_card(weighed_run).arms
    assert {"stacking", "gsco-fused", "adaptive"} <= set(arms)
    for arm in arms:
        assert len(outcomes(weighed_run, arm)) == CASES, arm


def test_what_was_learnt_is_written_down(weighed_run: Path) -> None:
    fitted = read_fitted(weighed_run)
    assert (fitted.cases, fitted.errors, fitted.task) == (VALIDATED, 0, "shade")
    assert set(fitted.quiet.weights) == {"one", "two", "similar cases"}
    assert set(fitted.fused.weights) == {"one", "two", "similar cases", "gsco"}
    assert 0 <= fitted.consultation.calls <= 0.5
    card = read_run_card(weighed_run / VALIDATION)
    assert (card.split, card.cases, list(card.arms)) == ("val", VALIDATED, ["mean", "gsco"])


def test_no_test_case_is_learnt_from(weighed_run: Path) -> None:
    learnt = {one.case for one in read_log(weighed_run / VALIDATION / OUTCOMES, Outcome)}
    assert not learnt & set(outcomes(weighed_run, "vote"))


def test_decisions_are_those_of_the_weights(weighed_run: Path) -> None:
    fitted, gathered = read_fitted(weighed_run), evidence(weighed_run)
    said = outcomes(weighed_run, "gsco")
    for case, outcome in outcomes(weighed_run, "gsco-fused").items():
        sources = sources_of(SHADE, gathered[case].evidence)
        pooled = fitted.fused({**sources, "gsco": said[case].probabilities})
        assert outcome.probabilities == pytest.approx(pooled, abs=1e-6)
        assert outcome.labels == fitted.fused.labels(pooled) and outcome.calls == 1
    for case, outcome in outcomes(weighed_run, "stacking").items():
        pooled = fitted.stack(sources_of(SHADE, gathered[case].evidence))
        assert outcome.probabilities == pytest.approx(pooled, abs=1e-6) and outcome.calls == 0


def test_the_adaptive_arm_asks_where_it_is_unsure(weighed_run: Path) -> None:
    fitted, gathered = read_fitted(weighed_run), evidence(weighed_run)
    fused = outcomes(weighed_run, "gsco-fused")
    for case, outcome in outcomes(weighed_run, "adaptive").items():
        sources = sources_of(SHADE, gathered[case].evidence)
        quiet = fitted.quiet(sources)
        limits = fitted.consultation
        limit = limits.disputed_limit if outcome.disputed else limits.limit
        if fitted.quiet.sureness(quiet) < limit:
            assert (outcome.calls, outcome.labels) == (1, fused[case].labels)
        else:
            assert outcome.calls == 0 and outcome.probabilities == pytest.approx(quiet, abs=1e-6)


def test_an_answer_is_asked_for_once_for_all_arms(weighing: Bench, tmp_path: Path) -> None:
    weighing.replay(tmp_path, PLAN.model_copy(update={"arms": ("gsco", "gsco-fused", "adaptive")}))
    assert weighing.generalist.asked == VALIDATED + CASES


def test_alone_it_asks_for_its_own_cases_only(weighing: Bench, tmp_path: Path) -> None:
    weighing.replay(tmp_path, PLAN.model_copy(update={"arms": ("adaptive",)}))
    calls = sum(one.calls for one in outcomes(tmp_path, "adaptive").values())
    assert weighing.generalist.asked == VALIDATED + calls


def test_arms_that_come_later_use_what_was_said(weighing: Bench, tmp_path: Path) -> None:
    weighing.replay(tmp_path, PLAN.model_copy(update={"arms": ("gsco",)}))
    weighing.generalist.asked = 0
    weighing.replay(tmp_path, PLAN.model_copy(update={"arms": ("gsco", "gsco-fused", "adaptive")}))
    assert weighing.generalist.asked == VALIDATED, "the validation cases only"


def test_stacking_asks_nobody(weighing: Bench, tmp_path: Path) -> None:
    weighing.replay(tmp_path, PLAN.model_copy(update={"arms": ("stacking",)}))
    assert weighing.generalist.asked == 0
    assert read_fitted(tmp_path).fused is None


def test_a_second_run_finds_everything_done(weighing: Bench, weighed_run: Path) -> None:
    before = json.loads((weighed_run / "fitted.json").read_text(encoding="utf-8"))
    assert weighing.replay(weighed_run)[1:] == (0, 0)
    assert weighing.generalist.asked == 0
    assert json.loads((weighed_run / "fitted.json").read_text(encoding="utf-8")) == before


def test_named_arms_that_cannot_be_fitted_are_refused(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="2 validation cases"):
        bench.replay(tmp_path / "out", PLAN.model_copy(update={"arms": ("adaptive",)}))
    card = bench.replay(tmp_path / "all").card
    assert set(card.left_out) == {"stacking", "gsco-fused", "adaptive"}


def test_validation_cases_cannot_judge_what_they_fitted(weighing: Bench, tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"arms": ("stacking",), "split": "val"})
    with pytest.raises(ConfigurationError, match="cannot be what is replayed"):
        weighing.replay(tmp_path, plan)


def test_a_generalist_that_often_fails(weighing: Bench, tmp_path: Path) -> None:
    """Of 5 % broken calls hardly any remains where it is asked again, and what remains is counted."""
    weighing.generalist.fails = 0.05
    patient = weighing.replay(tmp_path / "patient")
    retried = [one for one in read_log(tmp_path / "patient" / OUTCOMES, Outcome) if one.tries > 1]
    assert retried and patient.errors <= 1

    hasty = weighing.replay(tmp_path / "hasty", PLAN.model_copy(update={"retries": 0}))
    failed = [one for one in read_log(tmp_path / "hasty" / OUTCOMES, Outcome) if one.error]
    assert len(failed) == hasty.errors > 0
    assert all("the connection broke" in str(one.error) for one in failed)
    for arm in hasty.card.arms:
        assert len(outcomes(tmp_path / "hasty", arm)) == CASES, "nobody leaves the denominator"
    from gsco.evals.report import report_of

    scores = report_of(tmp_path / "hasty", rounds=20).scores
    assert scores.n == CASES and len(scores.failures) == hasty.errors

    weighing.generalist.fails = 0.0
    again = weighing.replay(tmp_path / "hasty", PLAN.model_copy(update={"retries": 0}))
    # Where a validation case had no answer before, the weights are fitted anew, and so are their decisions.
    assert again.errors == 0
    assert report_of(tmp_path / "hasty", rounds=20).scores.failures == ()


class TestWhenToAsk:
    def test_as_few_calls_as_are_as_good(self) -> None:
        import numpy as np
        from gsco.evals.pooling import Sample

        given = voices(n=300)
        named = {"guesses": given.sources["guesses"], "gsco": given.sources["knows"]}
        sample = Sample(given.options, named, given.truth, given.groups, True)
        found: Consultation = consultation(sample, np.zeros(300, dtype=bool))
        assert 0.1 < found.calls <= 0.5
        assert found.never < found.accuracy <= found.always + 0.02

    def test_a_generalist_that_knows_nothing_is_not_asked(self) -> None:
        import numpy as np
        from gsco.evals.pooling import Sample

        given = voices(n=300)
        named = {"guesses": given.sources["knows"], "gsco": given.sources["babbles"]}
        sample = Sample(given.options, named, given.truth, given.groups, True)
        assert consultation(sample, np.zeros(300, dtype=bool)).calls < 0.1


def test_few_similar_cases_prove_nothing(weighed_run: Path) -> None:
    found = next(iter(evidence(weighed_run).values())).evidence
    one = found.model_copy(update={"similar_cases": found.similar_cases[:1]})
    assert max(similar_shares(SHADE, one).values()) == pytest.approx(0.75)
