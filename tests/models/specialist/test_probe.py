"""A logistic head on embeddings: what holds with few images, rare classes and labels that nothing shows."""

import logging

import numpy as np
import pytest
from gsco.models.specialist.calibration import fit_temperature, softmax
from gsco.models.specialist.probe import LIMITS, Probe, _search, fit_probe
from gsco.models.specialist.recipe import TrainingConfig
from gsco.models.specialist.weighting import CLASS_WEIGHTS, class_weights, learnt_prior


def recipe(**given: object) -> TrainingConfig:
    return TrainingConfig.model_validate(
        {"data": ".", "task": "t", "name": "p", "init": "x", "trainable": "head", **given}
    )


def drawn(counts: list[int], seed: int = 0, width: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around one centre per class, the same centres for every seed, and one-hot targets."""
    truth = np.repeat(np.arange(len(counts)), counts)
    centres = np.random.default_rng(5).normal(0, 1.0, (len(counts), width))
    random = np.random.default_rng(seed)
    order = random.permutation(len(truth))
    points = centres[truth] + random.normal(0, 2.2, (len(truth), width))
    return points[order].astype(np.float32), np.eye(len(counts), dtype=np.float32)[truth[order]]


def fitted(features: np.ndarray, targets: np.ndarray, training: int, **given: object) -> Probe:
    groups = [str(number) for number in range(len(targets))]
    return fit_probe(features, targets, groups, training, recipe(**given), multilabel=False)


@pytest.mark.parametrize("rule", ["none", "balanced"])
def test_a_class_of_two_images_is_not_said_of_others(rule: str) -> None:
    features, targets = drawn([150, 150, 2])
    probe = fitted(features, targets, 260, class_weighting=rule)
    test, _ = drawn([60, 60, 0], seed=9)
    said = (test @ probe.weight.T + probe.bias).argmax(1)
    assert (said == 2).sum() <= 3


def test_a_class_with_a_handful_of_images_is_neither_weighted_nor_corrected_beyond_measure() -> None:
    counts = np.array([1000, 400, 2])
    weights = class_weights(counts, "balanced")
    assert weights.max() / weights.min() <= CLASS_WEIGHTS
    # Two images count as ten, so that the correction towards equal priors does not lift them.
    assert learnt_prior(np.array([100, 100, 2]), "balanced") == pytest.approx([1 / 3, 1 / 3, 1 / 3], abs=1e-6)


def test_the_chosen_strength_is_as_good_as_any_on_new_images() -> None:
    features, targets = drawn([70, 50, 30])
    probe = fitted(features, targets, 110, class_weighting="none")
    test, truth = drawn([400, 300, 200], seed=3)

    def loss(one: Probe) -> float:
        temperature = fit_temperature(one.out_of_fold.logits, one.out_of_fold.targets.argmax(1))
        p = softmax((test @ one.weight.T + one.bias) / temperature)
        return float(-np.log(p[truth.astype(bool)]).mean())

    assert loss(probe) < 0.9
    assert probe.numbers["oof_images"] == 150


def test_no_group_judges_a_head_that_it_fitted() -> None:
    # Each group has one random embedding and one random label: only a leak could tell the label.
    random = np.random.default_rng(0)
    points, labels = random.normal(size=(40, 30)), random.integers(0, 2, 40)
    features = np.repeat(points, 4, axis=0).astype(np.float32)
    targets = np.eye(2, dtype=np.float32)[np.repeat(labels, 4)]
    groups = [str(number) for number in np.repeat(np.arange(40), 4)]
    probe = fit_probe(features, targets, groups, 120, recipe(class_weighting="none"), multilabel=False)
    assert probe.numbers["oof_balanced_accuracy"] < 0.75
    assert probe.numbers["oof_loss"] > 0.6


@pytest.mark.parametrize(("optimum", "warned"), [(-2.3, False), (1.6, False), (-9.0, True), (6.0, True)])
def test_the_grid_grows_at_its_edge_and_warns_at_the_last(
    optimum: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = np.log10(_search(lambda penalty: -abs(np.log10(penalty) - optimum)))
    assert found == pytest.approx(np.clip(optimum, LIMITS[0] - 0.5, LIMITS[1] + 0.5), abs=0.26)
    assert ("edge of what is tried" in caplog.text) == warned


def test_a_class_of_one_group_does_not_spoil_the_temperature() -> None:
    features, targets = drawn([60, 60, 1])
    probe = fitted(features, targets, 121)
    assert len(probe.out_of_fold.rows) == 120
    assert 0.2 < fit_temperature(probe.out_of_fold.logits, probe.out_of_fold.targets.argmax(1)) < 5


def test_a_rotation_of_few_images_changes_nothing() -> None:
    features, targets = drawn([40, 40, 30], width=100)
    wide = np.concatenate([features, np.zeros((len(features), 60), np.float32)], axis=1)
    few, same = fitted(features, targets, 90), fitted(wide, targets, 90)
    assert few.numbers["c"] == same.numbers["c"]
    assert same.weight[:, :100] == pytest.approx(few.weight, abs=2e-3)
