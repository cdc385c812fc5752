"""The judge of conflicts against conflicts whose answer is known, and against scikit-learn's AUC."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gsco.benchmarks.separation import _corrected, conflicts_of, separation
from gsco.evals.arbitration.rates import TaskAnswers
from gsco.models.metrics.diagnosis import area
from sklearn.metrics import roc_auc_score

from ..evals.arbitration.test_conditions import TASK, known


def conflicts(count: int, sure: float) -> TaskAnswers:
    """Half of the time the generalist alone is right with "a", else the evidence with "b".

    Args:
        count: cases, and two more that are no such conflict.
        sure: what the generalist gives its own answer where it is right; else one half.
    """
    truths = ["a" if place % 2 else "b" for place in range(count)]
    cases = [known(f"case {place}", truth, said="bbb", near="bbb") for place, truth in enumerate(truths)]
    cases += [known("agreed", "b", said="bbb", near="bbb"), known("both wrong", "c", said="bbb", near="bbb")]
    own = ["a"] * count + ["b", "a"]
    labels = {("", "generalist"): own, ("", "gsco-paper"): ["a"] * count + ["b", "b"]}
    alone = [{"a": p, "b": 1 - p, "c": 0.0} for p in (sure if t == "a" else 0.5 for t in truths)]
    return TaskAnswers(TASK, cases, labels, {}, [*alone, None, None])


def test_only_conflicts_with_a_right_side_count() -> None:
    found = conflicts_of(conflicts(20, sure=0.9))
    assert len(found.groups) == 20
    assert found.own_right.sum() == found.settled.sum() == 10
    # Three specialists and the similar cases lean to the other side, all alike.
    assert found.features.shape == (20, 5)
    assert (found.features.max(0) < 0).sum() == 4


def test_what_tells_them_apart_is_found() -> None:
    found = separation([conflicts(60, sure=0.9)], rounds=50)
    assert found is not None
    assert (found.auc.n, found.own_right, found.tasks) == (60, 30, {"t": 60})
    assert found.auc.value == found.corrected["0.9"] == 1.0
    assert (found.upheld_by_gsco, found.corrected_by_gsco) == (1.0, 0.0)


def test_where_nothing_tells_them_apart_the_judge_guesses() -> None:
    found = separation([conflicts(200, sure=0.5)], rounds=50)
    assert found is not None
    assert found.auc.value == pytest.approx(0.5, abs=0.1)
    assert found.corrected["0.9"] < 0.3


def test_too_few_conflicts_are_not_judged() -> None:
    assert separation([conflicts(8, sure=0.9)], rounds=50) is None
    few, many = conflicts(8, sure=0.9), conflicts(40, sure=0.9)
    other = replace(few, task=TASK.model_copy(update={"name": "other"}))
    found = separation([other, many], rounds=50)
    assert found is not None
    assert found.tasks == {"t": 40}


def test_an_unknown_distribution_leans_to_neither_side() -> None:
    said = replace(conflicts(20, sure=0.9), alone=())
    assert conflicts_of(said).features.shape == (20, 4)


def test_auc_and_limit_are_those_of_the_field() -> None:
    random = np.random.default_rng(0)
    right = random.random(80) < 0.6
    judged = np.round(random.normal(right.astype(float), 1.0), 1)
    weights = random.integers(0, 4, size=(5, 80)).astype(np.float32)
    expected = [roc_auc_score(right, judged, sample_weight=row) for row in weights]
    assert area(right, judged)(weights) == pytest.approx(expected, abs=1e-6)
    limit = np.quantile(judged[right], 0.1, method="lower")
    assert (judged[right] >= limit).mean() >= 0.9
    assert _corrected(judged, right, 0.9) == pytest.approx((judged[~right] < limit).mean(), abs=0.05)
