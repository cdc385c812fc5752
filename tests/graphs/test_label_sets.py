"""Sets of labels: those that never occur are never said, and whole cases come right more often."""

from __future__ import annotations

import numpy as np
from gsco.graphs.label_sets import Bools, Floats, LabelSets, fit_label_sets, likeliest_sets
from gsco.models.specialist.calibration import fit_thresholds
from scipy.special import expit

OPTIONS = ("normal", "common", "rare")


def eyes(n: int, seed: int) -> tuple[Floats, Bools]:
    """An eye is normal, or has one of two diseases, or both; what is said of each label is noisy."""
    random = np.random.default_rng(seed)
    sets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]], dtype=bool)
    truth = sets[random.choice(4, n, p=[0.5, 0.4, 0.06, 0.04])]
    # Said by one who knows how frequent each label is.
    prior = np.log(truth.mean(0) / (1 - truth.mean(0)))
    return expit(prior + 3.0 * (truth - truth.mean(0)) + random.normal(0, 1.5, truth.shape)), truth


def f1(said: Bools, truth: Bools) -> float:
    return float((2 * (said & truth).sum(0) / np.maximum(said.sum(0) + truth.sum(0), 1)).mean())


def test_what_never_occurs_is_never_said() -> None:
    rule = fit_label_sets(OPTIONS, eyes(300, 0)[1])
    probabilities, _ = eyes(500, 1)
    said = likeliest_sets(rule, probabilities)
    assert not (said[:, 0] & (said[:, 1] | said[:, 2])).any() and said.any(1).all()
    assert any(said[:, 2]), "the rare one is found now and then"
    for row in range(0, 500, 50):
        labels = rule(dict(zip(OPTIONS, map(float, probabilities[row]), strict=True)))
        assert labels == tuple(np.array(OPTIONS)[said[row]])


def test_more_cases_are_wholly_right_than_by_a_threshold_for_each_label() -> None:
    probabilities, truth = eyes(400, 2)
    fresh, wanted = eyes(2000, 3)
    rule = likeliest_sets(fit_label_sets(OPTIONS, truth), fresh)
    alone = fresh >= fit_thresholds(probabilities, truth.astype(int))
    exact = [(said == wanted).all(1).mean() for said in (rule, alone)]
    assert exact[0] > exact[1] + 0.03
    assert f1(rule, wanted) > f1(alone, wanted) - 0.03, "and rare labels are not given up for it"


def test_each_label_can_be_said_even_if_it_never_occurs_alone() -> None:
    truth = np.array([[1, 1], [1, 1], [0, 0], [0, 0]], dtype=bool)
    rule = fit_label_sets(("a", "b"), truth)
    assert set(rule.sets) == {(), ("a",), ("b",), ("a", "b")}
    assert rule({"a": 0.9, "b": 0.9}) == ("a", "b") and rule({"a": 0.1, "b": 0.1}) == ()


def test_how_often_a_set_occurs_counts() -> None:
    """Two labels that are nearly always together are said together, though one by itself is unlikely."""
    truth = np.array([[1, 1]] * 45 + [[1, 0]] * 5 + [[0, 0]] * 50, dtype=bool)
    rule = fit_label_sets(("a", "b"), truth)
    doubtful = {"a": 0.9, "b": 0.4}
    assert rule(doubtful) == ("a", "b")
    assert LabelSets(options=rule.options, sets=rule.sets)(doubtful) == ("a",)
    log_scores = rule.log_scores(truth.mean(0)[None])[0]
    shares = np.exp(log_scores) / np.exp(log_scores).sum()
    assert shares[rule.sets.index(("a", "b"))] > 0.4, (
        "at the prevalence of the labels: the prevalence of the sets"
    )
