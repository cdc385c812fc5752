"""Each metric against another implementation, and its own rules where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gsco.models.metrics.answers import Answers, answers
from gsco.models.metrics.calibration import brier, calibration_error
from gsco.models.metrics.diagnosis import accuracy, auroc, balanced_accuracy, binary_f1, macro_f1
from gsco.models.metrics.registry import METRICS
from sklearn import metrics as sklearn

OPTIONS = ("a", "b", "c", "d")


def single(n: int = 300, *, seed: int = 0, failed: float = 0.0) -> tuple[Answers, np.ndarray, np.ndarray]:
    """Return answers of a fairly good arm, with the class indices of truth and answer (-1: none)."""
    random = np.random.default_rng(seed)
    truth = random.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])
    table = random.dirichlet(np.ones(4), n) + 0.5 * np.eye(4)[truth]
    table /= table.sum(1, keepdims=True)
    said = table.argmax(1)
    lost = random.random(n) < failed
    said[lost] = -1
    table[lost] = math.nan
    given = Answers(
        truth=np.eye(4, dtype=bool)[truth],
        said=np.eye(4, dtype=bool)[said] & ~lost[:, None],
        answered=~lost,
        probabilities=table,
        exclusive=True,
    )
    return given, truth, said


def several(n: int = 200, *, seed: int = 1) -> Answers:
    random = np.random.default_rng(seed)
    truth = random.random((n, 3)) < [0.5, 0.2, 0.05]
    probabilities = np.clip(random.random((n, 3)) * 0.7 + 0.3 * truth, 0, 1)
    return Answers(truth, probabilities >= 0.6, np.ones(n, dtype=bool), probabilities, exclusive=False)


class TestSingleLabel:
    def test_equals_scikit_learn(self) -> None:
        given, truth, said = single()
        assert accuracy(given) == sklearn.accuracy_score(truth, said)
        assert balanced_accuracy(given) == pytest.approx(sklearn.balanced_accuracy_score(truth, said))
        assert macro_f1(given) == pytest.approx(sklearn.f1_score(truth, said, average="macro"))
        area = sklearn.roc_auc_score(truth, given.probabilities, multi_class="ovr", average="macro")
        assert auroc(given) == pytest.approx(area)

    def test_a_case_without_answer_is_wrong_in_every_decision_metric(self) -> None:
        given, truth, said = single(failed=0.2)
        labels = list(range(4))
        assert 20 < (said == -1).sum() < 100
        assert accuracy(given) == pytest.approx(np.mean(truth == said))
        recalls = sklearn.recall_score(truth, said, labels=labels, average="macro")
        assert balanced_accuracy(given) == pytest.approx(recalls)
        assert macro_f1(given) == pytest.approx(sklearn.f1_score(truth, said, labels=labels, average="macro"))

    def test_probability_metrics_take_the_cases_that_have_probabilities(self) -> None:
        given, truth, said = single(failed=0.2)
        kept = said != -1
        area = sklearn.roc_auc_score(truth[kept], given.probabilities[kept], multi_class="ovr")
        assert auroc(given) == pytest.approx(area)
        assert len(given.stated) == kept.sum()

    def test_brier_is_the_squared_distance_over_all_options(self) -> None:
        given, truth, _ = single()
        by_hand = [
            sum((p - (column == true)) ** 2 for column, p in enumerate(row))
            for row, true in zip(given.probabilities.tolist(), truth.tolist(), strict=True)
        ]
        assert brier(given) == pytest.approx(sum(by_hand) / len(by_hand))
        two_classes = sum(
            sklearn.brier_score_loss(given.truth[:, label], given.probabilities[:, label])
            for label in range(4)
        )
        assert brier(given) == pytest.approx(two_classes)

    def test_calibration_error_by_hand(self) -> None:
        # Two bins of 15 are used: (0.61, 0.63) lies in the tenth, 0.95 in the last.
        given = answers(
            [["a"], ["b"], ["a"], ["a"]],
            [["a"], ["a"], ["a"], ["a"]],
            [{"a": 0.61, "b": 0.39}, {"a": 0.63, "b": 0.37}, {"a": 0.95, "b": 0.05}, {"a": 0.95, "b": 0.05}],
            ("a", "b"),
            exclusive=True,
        )
        expected = 2 / 4 * abs(0.62 - 0.5) + 2 / 4 * abs(0.95 - 1)
        assert calibration_error(given) == pytest.approx(expected)

    def test_perfectly_calibrated_answers_have_a_small_error(self) -> None:
        random = np.random.default_rng(3)
        p = random.uniform(0.5, 1, 20000)
        truth = np.stack([random.random(20000) < p, np.zeros(20000)], axis=1).astype(bool)
        truth[:, 1] = ~truth[:, 0]
        said = np.tile([True, False], (20000, 1))
        table = np.stack([p, 1 - p], axis=1)
        honest = Answers(truth, said, np.ones(20000, dtype=bool), table, exclusive=True)
        boastful = Answers(
            truth, said, honest.answered, np.stack([p**0.3, 1 - p**0.3], axis=1), exclusive=True
        )
        assert calibration_error(honest) < 0.015
        assert calibration_error(boastful) > 0.1

    def test_a_label_that_never_occurs_counts_nowhere(self) -> None:
        given = answers([["a"], ["b"]], [["a"], ["a"]], [None, None], ("a", "b", "c"), exclusive=True)
        assert balanced_accuracy(given) == 0.5
        assert macro_f1(given) == pytest.approx((2 / 3 + 0) / 2)
        assert math.isnan(auroc(given))


class TestMultiLabel:
    def test_equals_scikit_learn(self) -> None:
        given = several()
        assert accuracy(given) == sklearn.accuracy_score(given.truth, given.said)
        assert macro_f1(given) == pytest.approx(sklearn.f1_score(given.truth, given.said, average="macro"))
        per_label = [
            sklearn.balanced_accuracy_score(given.truth[:, label], given.said[:, label]) for label in range(3)
        ]
        assert balanced_accuracy(given) == pytest.approx(np.mean(per_label))
        area = sklearn.roc_auc_score(given.truth, given.probabilities, average="macro")
        assert auroc(given) == pytest.approx(area)
        losses = [
            sklearn.brier_score_loss(given.truth[:, label], given.probabilities[:, label])
            for label in range(3)
        ]
        assert brier(given) == pytest.approx(np.mean(losses))

    def test_none_of_the_options_is_an_answer_but_an_error_is_not(self) -> None:
        empty = [{"a": 0.1, "b": 0.1}, None]
        given = answers([[], []], [[], None], empty, ("a", "b"), exclusive=False)
        assert accuracy(given) == 0.5


def test_an_exclusive_task_needs_one_true_label() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        answers([["a", "b"]], [["a"]], [None], ("a", "b"), exclusive=True)


def test_the_f1_of_the_finding_is_that_of_two_classes_alone() -> None:
    truth, said = ["b", "b", "a", "b", "a"], ["b", "a", "b", "b", "a"]
    given = answers([[t] for t in truth], [[s] for s in said], [None] * 5, ("a", "b"), exclusive=True)
    assert binary_f1(given) == pytest.approx(sklearn.f1_score(truth, said, pos_label="b"))
    assert math.isnan(binary_f1(single()[0])) and math.isnan(binary_f1(several()))


def test_no_cases_give_no_numbers() -> None:
    given = answers([], [], [], ("a", "b"), exclusive=True)
    assert all(math.isnan(metric(given)) for metric in METRICS.values())
