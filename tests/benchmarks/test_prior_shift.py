"""Priors and thresholds against Bayes' rule on made-up classes, and against trying everything."""

from __future__ import annotations

import numpy as np
import pytest
from gsco.benchmarks.prior_shift import fit_threshold, reestimate_prior, under_prior
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

MEANS = np.array([0.0, 1.5, 3.0])


def posteriors(values: np.ndarray, prior: np.ndarray) -> np.ndarray:
    joint = norm.pdf(values[:, None], MEANS) * prior
    return joint / joint.sum(1, keepdims=True)


def test_posteriors_under_another_prior_are_those_of_bayes() -> None:
    values = np.linspace(-3, 6, 50)
    old, new = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    assert under_prior(posteriors(values, old), old, new) == pytest.approx(posteriors(values, new))


def test_the_prior_of_unlabelled_cases_is_found() -> None:
    old, new = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    random = np.random.default_rng(0)
    truth = random.choice(3, 20_000, p=new)
    values = MEANS[truth] + random.normal(size=len(truth))
    found = reestimate_prior(posteriors(values, old), old)
    assert found.prior == pytest.approx(new, abs=0.02)
    assert found.probabilities.sum(1) == pytest.approx(1)
    before = (posteriors(values, old).argmax(1) == truth).mean()
    assert (found.probabilities.argmax(1) == truth).mean() > before + 0.05


def test_the_same_prior_stays_and_nothing_gives_nothing() -> None:
    old = np.array([0.2, 0.3, 0.5])
    random = np.random.default_rng(1)
    values = MEANS[random.choice(3, 20_000, p=old)] + random.normal(size=20_000)
    assert reestimate_prior(posteriors(values, old), old).prior == pytest.approx(old, abs=0.02)
    assert reestimate_prior(np.zeros((0, 3)), old).rounds == 0


@given(st.integers(0, 10_000), st.integers(2, 30), st.sampled_from([1, 9]), st.booleans())
@settings(max_examples=100)
def test_no_other_threshold_is_right_more_often(seed: int, n: int, decimals: int, balanced: bool) -> None:
    random = np.random.default_rng(seed)
    truth = random.random(n) < 0.6
    probability = np.round(np.clip(random.random(n) * 0.7 + 0.3 * truth, 0, 1), decimals)
    weights = np.where(truth, 1 / max(1, truth.sum()), 1 / max(1, (~truth).sum())) if balanced else np.ones(n)

    def score(threshold: float) -> float:
        return float((((probability >= threshold) == truth) * weights).sum())

    found = fit_threshold(probability, truth, balanced=balanced)
    assert 0 <= found <= 1
    everywhere = [0.0, *(np.unique(probability) + 1e-12), *np.unique(probability)]
    assert score(found) >= max(map(score, everywhere)) - 1e-9
