import numpy as np
import pytest
from gsco.models.specialist.calibration import (
    balancing_weights,
    decide,
    fit_bias,
    fit_temperature,
    fit_thresholds,
    prior_bias,
    sigmoid,
    softmax,
)
from gsco.models.specialist.metrics import score


def drawn(
    n: int, prior: tuple[float, ...], seed: int = 0, spread: float = 1.2
) -> tuple[np.ndarray, np.ndarray]:
    """Classes of a Gaussian mixture, and the exact log-posterior under their prior as logits."""
    random = np.random.default_rng(seed)
    truth = random.choice(len(prior), n, p=prior)
    points = np.eye(len(prior))[truth] * 2 + random.normal(0, spread, (n, len(prior)))
    return (2 * points - 2) / spread**2 + np.log(prior), truth


def balanced(logits: np.ndarray, truth: np.ndarray) -> float:
    return score(truth, logits.argmax(1), softmax(logits))["balanced_accuracy"]


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_temperature_recovers_a_known_scaling(scale: float) -> None:
    logits, truth = drawn(5000, (0.5, 0.3, 0.2))
    assert fit_temperature(logits * scale, truth) == pytest.approx(scale, rel=0.08)


def test_temperature_of_independent_labels() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (3000, 4))
    truth = (random.random(logits.shape) < sigmoid(logits)).astype(int)
    assert fit_temperature(logits * 2.5, truth) == pytest.approx(2.5, rel=0.08)


def test_temperature_is_bounded_on_separable_data() -> None:
    truth = np.array([0, 1] * 20)
    assert 0.15 < fit_temperature(np.eye(2)[truth] * 5, truth) < 1


def test_prior_correction_improves_balanced_accuracy_on_a_skewed_prior() -> None:
    prior = (0.85, 0.1, 0.05)
    logits, truth = drawn(4000, prior)
    corrected = logits + prior_bias(np.array(prior))
    assert balanced(corrected, truth) > balanced(logits, truth) + 0.05
    assert prior_bias(np.array(prior)).sum() == pytest.approx(0)


def test_fitted_bias_improves_balanced_accuracy_on_new_data() -> None:
    prior = (0.85, 0.1, 0.05)
    logits, truth = drawn(1500, prior, seed=1)
    other, other_truth = drawn(4000, prior, seed=2)
    bias = fit_bias(logits, truth)
    assert bias.sum() == pytest.approx(0)
    assert balanced(other + bias, other_truth) > balanced(other, other_truth) + 0.05


def test_fitted_bias_stays_where_the_start_is_as_good() -> None:
    prior = (0.7, 0.3)
    logits, truth = drawn(1500, prior, seed=3)
    start = prior_bias(np.array(prior))
    assert fit_bias(logits, truth, start=start) == pytest.approx(start, abs=0.6)


def test_fitted_bias_is_the_middle_of_a_gap() -> None:
    # Any threshold between 1 and 5 separates the classes; the edges would hang on single images.
    margins = np.concatenate([np.linspace(-1, 1, 30), np.linspace(5, 9, 60)])
    truth = np.repeat([0, 1], [30, 60])
    logits = np.stack([np.zeros(90), margins], axis=1)
    bias = fit_bias(logits, truth)
    assert bias[0] - bias[1] == pytest.approx(3, abs=0.75)
    assert balanced(logits + bias, truth) == 1.0


def test_balancing_weights_count_classes_alike() -> None:
    truth = np.array([0] * 8 + [2] * 2)
    weights = balancing_weights(truth, 3)
    assert weights[truth == 0].sum() == pytest.approx(weights[truth == 2].sum())
    assert weights.mean() == pytest.approx(1)


def test_thresholds_maximise_f1() -> None:
    random = np.random.default_rng(0)
    truth = np.stack(
        [random.random(400) < 0.1, random.random(400) < 0.5, np.zeros(400, bool)], axis=1
    ).astype(int)
    probabilities = np.clip(0.25 * truth + random.normal(0.2, 0.08, truth.shape), 0, 1)
    thresholds = fit_thresholds(probabilities, truth)
    assert thresholds[2] == 0.5
    for label in range(2):
        fitted = score(
            truth[:, [label]],
            (probabilities[:, [label]] >= thresholds[label]).astype(int),
            probabilities[:, [label]],
        )
        for other in np.linspace(0.1, 0.5, 41):
            rival = score(
                truth[:, [label]], (probabilities[:, [label]] >= other).astype(int), probabilities[:, [label]]
            )
            assert fitted["macro_f1"] >= rival["macro_f1"] or np.isnan(rival["macro_f1"])


def test_decisions() -> None:
    probabilities = np.array([[0.2, 0.8], [0.6, 0.4]])
    assert decide(probabilities, ("a", "b")) == [("b",), ("a",)]
    assert decide(probabilities, ("a", "b"), (0.1, 0.5)) == [("a", "b"), ("a",)]
    assert decide(probabilities, ("a", "b"), (0.7, 0.9)) == [(), ()]
