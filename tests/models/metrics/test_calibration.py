"""Calibration and selective answering against torchmetrics, scikit-learn and slow ways of the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gsco.models.metrics.answers import Answers, certainty
from gsco.models.metrics.calibration import (
    aurc,
    brier,
    calibration_error,
    calibration_floor,
    error_at_coverage,
    log_loss,
    reliability,
    risk_coverage,
)
from gsco.models.metrics.diagnosis import auroc, macro_f1, micro_f1, precision
from hypothesis import given as every
from hypothesis import settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss
from torchmetrics.functional import classification as torchmetrics


def made(
    n: int = 400, columns: int = 4, *, exclusive: bool = True, seed: int = 0, decimals: int = 9
) -> Answers:
    random = np.random.default_rng(seed)
    if exclusive:
        truth = np.eye(columns, dtype=bool)[random.integers(0, columns, n)]
        table = random.dirichlet(np.ones(columns), n) + 0.6 * truth
        table /= table.sum(1, keepdims=True)
    else:
        truth = random.random((n, columns)) < 0.3
        table = np.clip(random.random((n, columns)) * 0.7 + 0.3 * truth, 0, 1)
    table = np.round(table, decimals)
    said = np.eye(columns, dtype=bool)[table.argmax(1)] if exclusive else table >= 0.5
    return Answers(truth, said, np.ones(n, dtype=bool), table, exclusive)


def tensors(given: Answers) -> tuple[torch.Tensor, torch.Tensor]:
    truth = torch.tensor(given.truth.argmax(1) if given.exclusive else given.truth.astype(int))
    return torch.tensor(given.probabilities), truth


class TestAgainstTorchmetrics:
    def test_calibration_error(self) -> None:
        given = made()
        found = torchmetrics.multiclass_calibration_error(
            *tensors(given), num_classes=4, n_bins=15, norm="l1"
        )
        assert calibration_error(given) == pytest.approx(float(found), abs=1e-6)

    def test_calibration_error_of_labels(self) -> None:
        given = made(exclusive=False)
        found = [
            float(
                torchmetrics.binary_calibration_error(torch.tensor(p), torch.tensor(t.astype(int)), n_bins=15)
            )
            for p, t in zip(given.probabilities.T, given.truth.T, strict=True)
        ]
        assert calibration_error(given) == pytest.approx(np.mean(found), abs=1e-6)

    @pytest.mark.parametrize("exclusive", [True, False])
    @pytest.mark.parametrize("decimals", [1, 9])
    def test_average_precision_and_area(self, exclusive: bool, decimals: int) -> None:
        given = made(exclusive=exclusive, decimals=decimals)
        p, t = tensors(given)
        if exclusive:
            ap = torchmetrics.multiclass_average_precision(p, t, num_classes=4)
            area = torchmetrics.multiclass_auroc(p, t, num_classes=4)
        else:
            ap = torchmetrics.multilabel_average_precision(p, t, num_labels=4)
            area = torchmetrics.multilabel_auroc(p, t, num_labels=4)
        everything = np.ones((1, given.n))
        found = [
            precision(true, p)(everything)[0]
            for true, p in zip(given.truth.T, given.probabilities.T, strict=True)
        ]
        assert np.mean(found) == pytest.approx(float(ap), abs=1e-6)
        assert auroc(given) == pytest.approx(float(area), abs=1e-6)

    def test_multilabel_f1(self) -> None:
        given = made(exclusive=False)
        p, t = tensors(given)
        for found, average in ((macro_f1(given), "macro"), (micro_f1(given), "micro")):
            wanted = torchmetrics.multilabel_f1_score(p, t, num_labels=4, average=average)
            assert found == pytest.approx(float(wanted), abs=1e-6)

    def test_single_label_f1(self) -> None:
        given = made()
        for found, average in ((macro_f1(given), "macro"), (micro_f1(given), "micro")):
            wanted = torchmetrics.multiclass_f1_score(*tensors(given), num_classes=4, average=average)
            assert found == pytest.approx(float(wanted), abs=1e-6)

    def test_brier(self) -> None:
        given = made(exclusive=False)
        wanted = [brier_score_loss(t, p) for t, p in zip(given.truth.T, given.probabilities.T, strict=True)]
        assert brier(given) == pytest.approx(np.mean(wanted))
        two = made(columns=2)
        assert brier(two) == pytest.approx(2 * brier_score_loss(two.truth[:, 1], two.probabilities[:, 1]))


class TestSelectiveAnswering:
    @every(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([1, 9]), st.booleans())
    @settings(max_examples=80)
    def test_the_curve_is_that_of_leaving_out_cases_one_by_one(self, seed, n, decimals, exclusive) -> None:
        given = made(n, 3, seed=seed, decimals=decimals, exclusive=exclusive)
        sure, right = certainty(given), given.right
        curve = risk_coverage(given)
        assert curve.certainty.tolist() == sorted(set(sure.tolist()), reverse=True)
        for level, coverage, risk in zip(*curve, strict=True):
            kept = sure >= level
            assert coverage == pytest.approx(kept.mean())
            assert risk == pytest.approx(1 - right[kept].mean())
        slow = np.mean([1 - right[sure >= level].mean() for level in sure])
        assert aurc(given) == pytest.approx(slow)

    def test_error_at_coverage_is_exact_without_ties(self) -> None:
        given = made(500, seed=3)
        surest = np.argsort(-certainty(given))[:400]
        assert error_at_coverage(given) == pytest.approx(1 - given.right[surest].mean())

    def test_ties_at_the_border_count_by_their_mean_error(self) -> None:
        truth = np.eye(2, dtype=bool)[[0, 0, 0, 0, 1]]
        table = np.array([[0.9, 0.1]] + [[0.7, 0.3]] * 4)
        said = np.eye(2, dtype=bool)[[0] * 5]
        given = Answers(truth, said, np.ones(5, dtype=bool), table, exclusive=True)
        # Three of the four equal ones are kept: three quarters of their one error.
        assert error_at_coverage(given) == pytest.approx(0.75 / 4)

    def test_knowing_nothing_is_the_error_itself_and_knowing_all_is_the_least(self) -> None:
        random = np.random.default_rng(0)
        right = random.random(1000) < 0.8
        truth = np.eye(2, dtype=bool)[np.where(right, 0, 1)]
        said = np.eye(2, dtype=bool)[np.zeros(1000, dtype=int)]
        everyone = np.ones(1000, dtype=bool)
        constant = Answers(truth, said, everyone, np.tile([0.7, 0.3], (1000, 1)), exclusive=True)
        assert aurc(constant) == pytest.approx(1 - right.mean())
        knows = np.where(right[:, None], [[0.9, 0.1]], [[0.6, 0.4]]) + random.random((1000, 1)) * [
            [1e-3, -1e-3]
        ]
        perfect = Answers(truth, said, everyone, knows, exclusive=True)
        wrong = np.sort(~right)
        best = float((np.cumsum(wrong) / np.arange(1, 1001)).mean())
        assert aurc(perfect) == pytest.approx(best)
        assert error_at_coverage(perfect) == pytest.approx(max(0.0, right.mean() - 0.8) * 0, abs=0.02)

    def test_the_surest_of_several_labels_is_the_least_sure_decision(self) -> None:
        given = made(3, 3, exclusive=False)
        given.probabilities[:] = [[0.9, 0.2, 0.1], [0.55, 0.0, 0.0], [math.nan] * 3]
        said = given.probabilities >= 0.5
        given = Answers(given.truth, said, given.answered, given.probabilities, exclusive=False)
        assert certainty(given)[:2] == pytest.approx([0.8, 0.55]) and math.isnan(certainty(given)[2])

    def test_cases_without_probabilities_are_left_out(self) -> None:
        given = made(50)
        given.probabilities[:10] = math.nan
        assert aurc(given) == pytest.approx(aurc(given.take(np.arange(10, 50))))


def test_a_reliability_diagram_adds_up_to_the_calibration_error() -> None:
    given = made()
    found = reliability(given)
    assert sum(one.n for one in found) == given.n
    weighted = sum(abs(one.confidence - one.accuracy) * one.n for one in found) / given.n
    assert weighted == pytest.approx(calibration_error(given))


def test_how_sure_a_set_of_labels_is_goes_before_its_least_sure_label() -> None:
    given = made(3, 3, exclusive=False)
    said = given.probabilities >= 0.5
    sure = np.array([0.3, 0.6, math.nan])
    given = Answers(given.truth, said, given.answered, given.probabilities, False, sure)
    assert certainty(given)[:2] == pytest.approx([0.3, 0.6]) and math.isnan(certainty(given)[2])
    assert certainty(given.take(np.array([1]))) == pytest.approx([0.6])


@pytest.mark.parametrize("exclusive", [True, False])
def test_log_loss_is_scikit_learn_s(exclusive: bool) -> None:
    from sklearn.metrics import log_loss as theirs

    given = made(200, 3, exclusive=exclusive)
    p = np.clip(given.probabilities, 1e-3, 1 - 1e-3)
    if exclusive:
        by_hand = -np.log(p[given.truth]).mean()
    else:
        by_hand = np.mean([theirs(given.truth[:, at], p[:, at], labels=[0, 1]) for at in range(3)])
    assert log_loss(given) == pytest.approx(by_hand)
    certain = given.probabilities.copy()
    certain[0] = np.where(given.truth[0], 0.0, 1.0)
    assert math.isfinite(log_loss(Answers(given.truth, given.said, given.answered, certain, exclusive)))


@pytest.mark.parametrize("n", [100, 1000])
def test_the_floor_is_the_error_of_answers_that_are_calibrated(n: int) -> None:
    random = np.random.default_rng(n)
    found, floors = [], []
    for _ in range(30):
        p = random.uniform(0.5, 1, n)
        hit = random.random(n) < p
        truth = np.stack([hit, ~hit], axis=1)
        said = np.tile([True, False], (n, 1))
        one = Answers(truth, said, np.ones(n, dtype=bool), np.stack([p, 1 - p], axis=1), exclusive=True)
        found.append(calibration_error(one))
        floors.append(calibration_floor(one, rounds=30))
    assert np.mean(floors) == pytest.approx(np.mean(found), rel=0.15)
    assert np.mean(floors) < {100: 0.15, 1000: 0.05}[n]
