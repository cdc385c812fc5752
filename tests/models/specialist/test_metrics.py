import numpy as np
import pytest
from gsco.models.specialist.metrics import NAMES, score, score_with_intervals
from sklearn import metrics as sk


@pytest.fixture
def single() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(4), 300).round(2)
    probabilities /= probabilities.sum(1, keepdims=True)
    truth = np.array([random.choice(4, p=row) for row in probabilities])
    return truth, probabilities.argmax(1), probabilities


def test_single_label_scores_are_scikit_learns(single: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    truth, decided, probabilities = single
    weights = np.random.default_rng(1).integers(0, 4, len(truth)).astype(float)
    for sample in (None, weights):
        found = score(truth, decided, probabilities, sample)
        assert tuple(found) == NAMES
        assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, decided, sample_weight=sample))
        assert found["balanced_accuracy"] == pytest.approx(
            sk.balanced_accuracy_score(truth, decided, sample_weight=sample)
        )
        assert found["macro_f1"] == pytest.approx(
            sk.f1_score(truth, decided, average="macro", sample_weight=sample)
        )
        areas = [sk.roc_auc_score(truth == k, probabilities[:, k], sample_weight=sample) for k in range(4)]
        assert found["auroc"] == pytest.approx(np.mean(areas))


def test_multilabel_scores_are_scikit_learns() -> None:
    random = np.random.default_rng(2)
    probabilities = random.random((200, 3))
    truth = (random.random((200, 3)) < probabilities).astype(int)
    decided = (probabilities > 0.6).astype(int)
    found = score(truth, decided, probabilities)
    balanced = [sk.balanced_accuracy_score(truth[:, k], decided[:, k]) for k in range(3)]
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, decided))
    assert found["balanced_accuracy"] == pytest.approx(np.mean(balanced))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(truth, decided, average="macro"))
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(truth, probabilities))


def test_one_class_only_leaves_the_area_undefined() -> None:
    found = score(np.zeros(5, int), np.zeros(5, int), np.full((5, 2), 0.5))
    assert np.isnan(found["auroc"])
    assert found["balanced_accuracy"] == 1.0


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Of answers of two labels, the first of which is always said."""
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    return score(1 - right.astype(int), np.zeros(len(right), int), probabilities)["ece"]


def test_calibration_error_of_known_cases() -> None:
    half = np.array([True, False] * 50)
    assert calibration_error(np.full(100, 0.5), half) == pytest.approx(0.0)
    assert calibration_error(np.full(100, 0.9), half) == pytest.approx(0.4)
    # Two bins, off by 0.1 and 0.3.
    confidence = np.concatenate([np.full(100, 0.6), np.full(100, 0.8)])
    assert calibration_error(confidence, np.tile(half, 2)) == pytest.approx(0.2)


def test_intervals_hold_the_value_and_widen_with_groups(
    single: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    truth, decided, probabilities = single
    alone = score_with_intervals(truth, decided, probabilities, [str(n) for n in range(300)], draws=300)
    for metric in alone.values():
        assert metric.low <= metric.value <= metric.high
    spread = np.sqrt(alone["accuracy"].value * (1 - alone["accuracy"].value) / 300)
    assert alone["accuracy"].high - alone["accuracy"].low == pytest.approx(2 * 1.96 * spread, rel=0.2)
    # Every image ten times: the same values, no more information.
    many, said, sure = (np.repeat(array, 10, axis=0) for array in (truth, decided, probabilities))
    groups = np.repeat([str(n) for n in range(300)], 10).tolist()
    grouped = score_with_intervals(many, said, sure, groups, draws=300)
    naive = score_with_intervals(many, said, sure, [str(n) for n in range(3000)], draws=300)
    assert grouped["accuracy"] == alone["accuracy"].model_copy(update={"n": 3000})
    assert naive["accuracy"].high - naive["accuracy"].low < 0.5 * (
        alone["accuracy"].high - alone["accuracy"].low
    )
