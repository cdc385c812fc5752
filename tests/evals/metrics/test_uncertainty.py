"""Intervals and tests against slow, independent ways of computing the same."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from gsco.evals.metrics.uncertainty import difference, estimates, holm, share, sign_flip
from gsco.models.metrics.answers import Answers
from gsco.models.metrics.draws import bootstrap, draws, interval
from gsco.models.metrics.registry import METRICS, kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats


def some_answers(n: int, columns: int, *, exclusive: bool, seed: int) -> Answers:
    """Return random answers with rare labels, ties, errors and missing probabilities."""
    random = np.random.default_rng(seed)
    share = random.dirichlet(np.ones(columns))
    if exclusive:
        truth = np.eye(columns, dtype=bool)[random.choice(columns, n, p=share)]
    else:
        truth = random.random((n, columns)) < share
    table = np.round(random.dirichlet(np.ones(columns), n) + 0.4 * truth, 1)
    table /= np.maximum(table.sum(1, keepdims=True), 1e-9)
    answered = random.random(n) > 0.1
    said = np.eye(columns, dtype=bool)[table.argmax(1)] & answered[:, None]
    table[random.random(n) < 0.2] = math.nan
    return Answers(truth, said, answered, table, exclusive)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_a_kernel_is_its_metric_on_the_drawn_cases(exclusive: bool, seed: int) -> None:
    answered = some_answers(40, 4, exclusive=exclusive, seed=seed)
    groups = [str(case // 2) for case in range(40)]
    weights = np.concatenate(list(draws(groups, rounds=20, seed=seed)))
    found = {name: kernel(weights) for name, kernel in kernels(answered).items()}
    for draw, times in enumerate(weights):
        cases = answered.take(np.repeat(np.arange(40), times.astype(int)))
        expected = {name: metric(cases) for name, metric in METRICS.items()}
        assert {name: values[draw] for name, values in found.items()} == pytest.approx(expected, nan_ok=True)


def test_draws_take_whole_groups_and_keep_their_number() -> None:
    groups = ["x", "x", "y", "z", "z", "z"]
    weights = np.concatenate(list(draws(groups, rounds=500, seed=1)))
    assert weights.shape == (500, 6)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(1) == 3).all()
    assert weights[:, [0, 2, 3]].mean() == pytest.approx(1, abs=0.1)


def test_draws_depend_on_the_seed_and_not_on_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [str(case) for case in range(30)]
    whole = np.concatenate(list(draws(groups, rounds=50, seed=7)))
    monkeypatch.setattr("gsco.models.metrics.draws._CHUNK", 100)
    pieces = list(draws(groups, rounds=50, seed=7))
    assert len(pieces) > 10
    assert (np.concatenate(pieces) == whole).all()
    assert (np.concatenate(list(draws(groups, rounds=50, seed=8))) != whole).any()


def test_the_interval_of_an_accuracy_is_that_of_the_normal_approximation() -> None:
    right = np.arange(1000) < 800
    truth = np.tile([True, False], (1000, 1))
    said = np.stack([right, ~right], axis=1)
    answered = Answers(truth, said, np.ones(1000, dtype=bool), np.full((1000, 2), math.nan), exclusive=True)
    drawn = bootstrap({"accuracy": kernels(answered)["accuracy"]}, [str(case) for case in range(1000)])
    half = 1.96 * math.sqrt(0.8 * 0.2 / 1000)
    assert interval(drawn["accuracy"]) == pytest.approx((0.8 - half, 0.8 + half), abs=0.003)


def test_groups_of_equal_cases_widen_the_interval_by_the_root_of_their_size() -> None:
    right = np.repeat(np.arange(200) % 5 != 0, 4)
    truth = np.tile([True, False], (800, 1))
    answered = Answers(
        truth,
        np.stack([right, ~right], axis=1),
        np.ones(800, dtype=bool),
        np.full((800, 2), math.nan),
        exclusive=True,
    )
    only = {"accuracy": kernels(answered)["accuracy"]}
    alone = interval(bootstrap(only, [str(case) for case in range(800)])["accuracy"])
    grouped = interval(bootstrap(only, [str(case // 4) for case in range(800)])["accuracy"])
    assert (grouped[1] - grouped[0]) / (alone[1] - alone[0]) == pytest.approx(2, rel=0.1)


def test_the_percentile_interval_equals_scipys() -> None:
    random = np.random.default_rng(5)
    right = random.random(60) < 0.7
    truth = np.tile([True, False], (60, 1))
    answered = Answers(
        truth,
        np.stack([right, ~right], axis=1),
        np.ones(60, dtype=bool),
        np.full((60, 2), math.nan),
        exclusive=True,
    )
    drawn = bootstrap(
        {"accuracy": kernels(answered)["accuracy"]}, [str(case) for case in range(60)], rounds=20000
    )
    expected = stats.bootstrap(
        (right,), np.mean, method="percentile", n_resamples=20000, rng=1
    ).confidence_interval
    assert interval(drawn["accuracy"]) == pytest.approx((expected.low, expected.high), abs=0.0085)


def test_estimates_say_over_how_many_cases() -> None:
    answered = some_answers(120, 3, exclusive=True, seed=2)
    drawn = bootstrap(kernels(answered), [str(case) for case in range(120)], rounds=200)
    found = estimates(answered, drawn)
    assert found["accuracy"].n == 120
    assert found["auroc"].n == len(answered.stated) < 120
    assert all(
        estimate.low <= estimate.value <= estimate.high for name, estimate in found.items() if name != "ece"
    )


def test_what_cannot_be_computed_is_left_out() -> None:
    answered = some_answers(20, 3, exclusive=True, seed=2)
    silent = Answers(
        answered.truth, answered.said, answered.answered, np.full((20, 3), math.nan), exclusive=True
    )
    drawn = bootstrap(kernels(silent), [str(case) for case in range(20)], rounds=50)
    assert set(estimates(silent, drawn)) == {"accuracy", "balanced_accuracy", "macro_f1", "micro_f1"}


def test_the_paired_difference_is_narrower_than_two_independent_ones() -> None:
    random = np.random.default_rng(0)
    first = random.random(400) < 0.8
    second = first ^ (random.random(400) < 0.04)
    truth = np.tile([True, False], (400, 1))
    groups = [str(case) for case in range(400)]

    def drawn(right: np.ndarray, seed: int) -> np.ndarray:
        said = np.stack([right, ~right], axis=1)
        answered = Answers(truth, said, np.ones(400, dtype=bool), np.full((400, 2), math.nan), exclusive=True)
        return bootstrap({"accuracy": kernels(answered)["accuracy"]}, groups, seed=seed)["accuracy"]

    gap = float(first.mean() - second.mean())
    paired = difference(gap, drawn(first, 0) - drawn(second, 0), 400)
    independent = difference(gap, drawn(first, 0) - drawn(second, 1), 400)
    spread = np.std(first.astype(float) - second) / math.sqrt(400)
    assert (paired.high - paired.low) == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert (independent.high - independent.low) > 2 * (paired.high - paired.low)


def test_the_p_of_a_difference_is_not_floored_by_the_draws() -> None:
    drawn = np.random.default_rng(0).normal(0.2, 0.02, 500)
    assert difference(0.2, drawn, 10).p == pytest.approx(2 * stats.norm.sf(0.2 / drawn.std()))
    assert difference(0.2, drawn, 10).p < 1e-15
    assert difference(0.0, np.zeros(999), 10).p == 1.0
    assert difference(0.2, drawn, 10, 0.5).p == 0.5


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (5, 0), (8, 2), (3, 3), (40, 21), (1, 0)])
def test_sign_flips_of_single_cases_are_the_exact_binomial_sum(only_first: int, only_second: int) -> None:
    first = np.array([True] * only_first + [False] * only_second + [True, False] * 7)
    second = np.array([False] * only_first + [True] * only_second + [True, False] * 7)
    total = only_first + only_second
    smaller = min(only_first, only_second)
    tail = sum(math.comb(total, hits) for hits in range(smaller + 1)) / 2**total
    groups = [str(case) for case in range(len(first))]
    gaps = first.astype(float) - second
    assert sign_flip(gaps, groups) == pytest.approx(min(1.0, 2 * tail))
    assert sign_flip(-gaps, groups) == sign_flip(gaps, groups)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_sign_flips_of_groups_equal_all_signs_gone_through(whole: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    member = random.integers(9, size=25)
    gaps = random.integers(-1, 2, 25).astype(float) if whole else random.normal(0.1, 1, 25)
    sums = np.array([gaps[member == one].sum() for one in range(9)])
    signs = np.array([[1 if at >> bit & 1 else -1 for bit in range(9)] for at in range(2**9)])
    slow = float((np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9).mean())
    assert sign_flip(gaps, [str(one) for one in member]) == pytest.approx(slow, abs=0 if whole else 0.005)


def test_many_groups_need_no_floor() -> None:
    gaps = np.ones(200)
    groups = [str(case) for case in range(200)]
    assert sign_flip(gaps, groups) == pytest.approx(2 / 2.0**200)
    together = sign_flip(gaps, [str(case // 20) for case in range(200)])
    assert together == pytest.approx(2 / 2.0**10)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0.001, 0.3))
def test_holm_rejects_what_the_closed_test_of_bonferroni_rejects(p_values: list[float], level: float) -> None:
    adjusted = holm(p_values)
    everything = range(len(p_values))
    subsets = [set(some) for size in range(1, len(p_values) + 1) for some in combinations(everything, size)]
    for index, value in enumerate(adjusted):
        closed = max(
            min(1.0, len(some) * min(p_values[i] for i in some)) for some in subsets if index in some
        )
        assert value == pytest.approx(closed)
        assert (value <= level) == (closed <= level) or value == pytest.approx(level)


def test_a_share_of_single_cases_is_wilson_s() -> None:
    hits = np.array([True] * 7 + [False] * 13)
    found = share(hits, [str(case) for case in range(20)])
    bounds = stats.binomtest(7, 20).proportion_ci(0.95, method="wilson")
    assert found is not None
    assert (found.value, found.n) == (0.35, 20)
    assert (found.low, found.high) == pytest.approx((bounds.low, bounds.high), abs=1e-9)


def test_a_share_of_cases_that_are_alike_is_that_of_their_groups() -> None:
    hits = np.repeat([True] * 7 + [False] * 13, 5)
    groups = [str(case // 5) for case in range(100)]
    found, of_groups = share(hits, groups), stats.binomtest(7, 20).proportion_ci(0.95, method="wilson")
    assert found is not None and found.n == 100
    assert (found.low, found.high) == pytest.approx((of_groups.low, of_groups.high), abs=1e-9)
    every = share(np.ones(100, dtype=bool), groups)
    all_of_20 = stats.binomtest(20, 20).proportion_ci(0.95, method="wilson")
    assert every is not None and every.low == pytest.approx(all_of_20.low, abs=1e-9)


def test_a_share_of_some_cases() -> None:
    hits, some = np.array([True, False, True]), np.array([True, True, False])
    found = share(hits, ["x", "y", "z"], some)
    assert found is not None and (found.value, found.n) == (0.5, 2)
    assert share(hits, ["x", "y", "z"], np.zeros(3, dtype=bool)) is None
