"""Fitting: what pools and stacks recover, what is chosen, and when the generalist is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gsco.errors import ConfigurationError
from gsco.graphs import fitting
from gsco.graphs.fitting import (
    START_WEIGHT,
    FitSample,
    apply_pool,
    fit_pool,
    fit_stack,
    folds_of,
    right,
    sample_of,
    surprise,
    with_sets,
)
from gsco.graphs.selection import ask_limits, select_rule

OPTIONS = ("a", "b", "c")


def voices(n: int = 400, seed: int = 0) -> FitSample:
    """Three sources: one that mostly knows, one that knows half as much, one that says anything."""
    random = np.random.default_rng(seed)
    truth = random.integers(3, size=n)
    said = {}
    for name, strength in (("knows", 2.0), ("guesses", 1.0), ("babbles", 0.0)):
        logits = random.normal(0, 1, (n, 3)) + strength * np.eye(3)[truth]
        odds = np.exp(logits)
        said[name] = odds / odds.sum(1, keepdims=True)
    return FitSample(OPTIONS, said, np.eye(3, dtype=bool)[truth], tuple(str(i // 2) for i in range(n)), True)


def several(n: int = 300, seed: int = 1) -> FitSample:
    random = np.random.default_rng(seed)
    truth = random.random((n, 3)) < (0.5, 0.3, 0.1)
    said = {}
    for name, strength in (("knows", 2.0), ("babbles", 0.0)):
        logits = random.normal(0, 1, (n, 3)) + strength * (truth - 0.5)
        said[name] = 1 / (1 + np.exp(-logits))
    return FitSample(OPTIONS, said, truth, tuple(map(str, range(n))), False)


def case(given: FitSample, row: int) -> dict[str, dict[str, float]]:
    return {
        name: dict(zip(OPTIONS, map(float, values[row]), strict=True))
        for name, values in given.sources.items()
    }


class TestPool:
    def test_who_knows_more_weighs_more(self) -> None:
        weights = fit_pool(voices()).weights
        assert weights["knows"] > weights["guesses"] > weights["babbles"] >= 0
        assert weights["babbles"] < 0.2 < 0.5 < weights["knows"]

    def test_it_is_better_than_its_best_source_on_fresh_cases(self) -> None:
        fresh, pool = voices(seed=7), fit_pool(voices())
        pooled = np.array([list(pool(case(fresh, row)).values()) for row in range(len(fresh))])
        assert right(pooled, fresh).mean() > right(fresh.sources["knows"], fresh).mean()
        assert surprise(pooled, fresh).mean() < surprise(fresh.sources["knows"], fresh).mean()

    def test_it_is_a_minimum(self) -> None:
        """No neighbour of the fitted weights has a smaller penalised loss."""
        given = voices(n=120)
        pool = fit_pool(given, by_label=True)
        names = sorted(given.sources)
        logs = [np.log(np.clip(given.sources[name], 1e-3, 1 - 1e-3)) for name in names]
        evidence = [rows - rows.mean(1, keepdims=True) for rows in logs]

        def loss(weights: np.ndarray, by_label: np.ndarray, offsets: np.ndarray) -> float:
            scores = sum(
                weight * rows + rows @ matrix.T
                for weight, matrix, rows in zip(weights, by_label, evidence, strict=True)
            )
            odds = np.exp(scores + offsets)
            pooled = odds / odds.sum(1, keepdims=True)
            away = np.concatenate([weights - START_WEIGHT / 3, by_label.ravel(), offsets])
            penalty = fitting.PRIOR_STRENGTH / len(given) * away @ away / 2
            return float((-np.log(pooled[given.truth])).mean() + penalty)

        fitted = (
            np.array([pool.weights[name] for name in names]),
            np.array([pool.label_weights[name] for name in names]),
            np.array(pool.offsets),
        )
        best = loss(*fitted)
        for part in range(3):
            for place in np.ndindex(fitted[part].shape):
                for step in (-0.02, 0.02):
                    moved = [values.copy() for values in fitted]
                    moved[part][place] += step
                    if part == 1:
                        moved[part][place[0]] -= np.eye(3) * np.trace(moved[part][place[0]]) / 3
                    if part or moved[0][place] >= 0:
                        assert loss(*moved) >= best - 1e-7

    def test_what_is_said_of_one_label_may_count_for_another(self) -> None:
        """A source that names b wherever a is true is of use, and its share adds up with the others'."""
        random = np.random.default_rng(3)
        truth = np.eye(3, dtype=bool)[random.integers(0, 3, 300)]
        mixed = np.where(truth[:, [1, 0, 2]], 0.8, 0.1)
        given = FitSample(OPTIONS, {"mixed": mixed}, truth, tuple(map(str, range(300))), True)
        pool = fit_pool(given, by_label=True)
        assert right(apply_pool(pool, given), given).mean() == 1
        one = case(given, 0)
        (share,), offset = pool.shares(one, "a", "b")[0].values(), pool.shares(one, "a", "b")[1]
        pooled = pool(one)
        assert share + offset == pytest.approx(np.log(pooled["a"] / pooled["b"]))

    def test_weights_by_label_need_one_label_per_case_and_few_labels(self) -> None:
        given, n = voices(n=60), fitting.MOST_LABELS + 1
        truth = np.eye(n, dtype=bool)[np.arange(60) % n]
        many = replace(given, options=tuple(map(str, range(n))), truth=truth, sources={})
        assert fitting.may_weigh_by_label(given)
        assert not fitting.may_weigh_by_label(several()) and not fitting.may_weigh_by_label(many)

    def test_a_missing_source_hands_its_weight_on(self) -> None:
        given = voices()
        pool, said = fit_pool(given), case(voices(seed=3), 0)
        whole = pool(said)
        del said["babbles"]
        partly = pool(said)
        assert sum(partly.values()) == pytest.approx(1)
        assert partly == pytest.approx(whole, abs=0.1)
        with pytest.raises(LookupError):
            pool({"stranger": said["knows"]})

    def test_a_certain_source_does_not_silence_the_others(self) -> None:
        pool = fit_pool(voices())
        sure = {"a": 1.0, "b": 0.0, "c": 0.0}
        other = {"a": 0.0, "b": 1.0, "c": 0.0}
        pooled = pool({"knows": other, "guesses": sure, "babbles": sure})
        assert all(0 < p < 1 for p in pooled.values())

    def test_several_labels_are_said_as_a_set(self) -> None:
        given = several()
        pooled = pooled_out_of_fold(given)
        pool = with_sets(fit_pool(given), given, pooled)
        one = pool(case(given, 0))
        assert pool.sets is not None and pool.labels(one) == pool.sets(one)
        assert pool.weights["knows"] > pool.weights["babbles"]
        guessed = max(np.unique(given.truth, axis=0, return_counts=True)[1]) / len(given)
        assert right(pooled, given).mean() > guessed + 0.15


class TestStack:
    @pytest.mark.parametrize("given", [voices(), several()], ids=["one label", "several"])
    def test_it_learns(self, given: FitSample) -> None:
        stack = fit_stack(given)
        pooled = np.array([list(stack(case(given, row)).values()) for row in range(len(given))])
        assert surprise(pooled, given).mean() < surprise(given.sources["knows"], given).mean()
        assert stack.labels(stack(case(given, 0))) is not None
        with pytest.raises(LookupError, match="babbles"):
            stack({"knows": case(given, 0)["knows"]})

    def test_two_options_and_a_label_that_never_occurs(self) -> None:
        given = voices()
        two = FitSample(
            ("a", "b", "c"),
            given.sources,
            np.eye(3, dtype=bool)[np.minimum(given.truth.argmax(1), 1)],
            given.groups,
            True,
        )
        said = fit_stack(two)(case(two, 0))
        assert said["c"] < 1e-6 and sum(said.values()) == pytest.approx(1)


def pooled_out_of_fold(given: FitSample) -> np.ndarray:
    pooled = np.empty(given.truth.shape)
    for rest, left_out in folds_of(given):
        pooled[left_out] = apply_pool(fit_pool(given.take(rest)), given.take(left_out))
    return pooled


def test_no_fold_sees_its_own_cases() -> None:
    """Of labels that are drawn at random nothing can be learnt, and out of fold nothing seems to be."""
    given = voices()
    random = np.random.default_rng(0)
    noise = FitSample(OPTIONS, given.sources, given.truth[random.permutation(len(given))], given.groups, True)
    assert right(pooled_out_of_fold(noise), noise).mean() < 0.42
    assert right(pooled_out_of_fold(given), given).mean() > 0.8
    for rest, left_out in folds_of(given):
        assert not {given.groups[row] for row in rest} & {given.groups[row] for row in left_out}


def test_only_complete_cases_are_taken() -> None:
    said = [case(voices(), row) for row in range(40)]
    del said[3]["knows"]
    found = sample_of(OPTIONS, said, [("a",)] * 40, list(map(str, range(40))), exclusive=True)
    assert found.groups == tuple(str(row) for row in range(40) if row != 3)


def test_too_few_cases() -> None:
    said = [case(voices(), row) for row in range(5)]
    with pytest.raises(ConfigurationError, match="5 of 5 labelled cases"):
        sample_of(OPTIONS, said, [("a",)] * 5, ["x"] * 5, exclusive=True)


def named(given: FitSample, **names: str) -> FitSample:
    said = {name: given.sources[source] for name, source in names.items()}
    return FitSample(given.options, said, given.truth, given.groups, True)


class TestWhenToAsk:
    def test_as_few_questions_as_are_as_good(self) -> None:
        given = named(voices(n=300), guesses="guesses", generalist="knows")
        quiet = pooled_out_of_fold(given.only(["guesses"]))
        full = pooled_out_of_fold(given)
        limits = ask_limits(given, quiet, full, np.zeros(300, dtype=bool))
        assert 0.1 < limits.calls <= 0.5
        asked = quiet.max(1) < limits.limit
        mixed = np.where(asked[:, None], full, quiet)
        assert right(quiet, given).mean() < right(mixed, given).mean() <= right(full, given).mean() + 0.02

    def test_a_generalist_that_knows_nothing_is_not_asked(self) -> None:
        given = named(voices(n=300), guesses="knows", generalist="babbles")
        chosen = select_rule(given, np.zeros(300, dtype=bool))
        assert (chosen.rule, chosen.limits) == ("fused", None)
        assert "generalist" not in chosen.chosen


class TestWhatIsChosen:
    def test_weights_by_label_are_taken_where_a_source_takes_one_label_for_another(self) -> None:
        given = voices(n=400)
        mixed = replace(given, sources={"knows": given.sources["knows"][:, [1, 0, 2]]})
        for sample, expected in ((mixed, True), (given.only(["knows", "babbles"]), False)):
            chosen = select_rule(sample, np.zeros(400, dtype=bool))
            assert bool(chosen.quiet.label_weights) is expected

    def test_a_source_that_knows_all_that_is_known_is_not_lost_in_the_pool(self) -> None:
        given = named(voices(n=400), one="knows", two="babbles")
        chosen = select_rule(given, np.zeros(400, dtype=bool))
        scores = {one.name: one for one in chosen.candidates}
        pool = next(score for name, score in scores.items() if name == "pool")
        assert pool.log_loss <= scores["one"].log_loss + 2 * scores["one"].margin + 0.01
        assert chosen.right.mean() > right(given.sources["one"], given).mean() - 0.02

    def test_a_specialist_that_was_stopped_on_these_cases_does_not_decide_alone(self) -> None:
        given = named(voices(n=400), one="knows", two="babbles")
        nobody = np.zeros(400, dtype=bool)
        assert select_rule(given, nobody).chosen == ("one",)
        assert select_rule(given, nobody, unseen=False).chosen == ("one", "two")

    def test_confidence_is_calibrated(self) -> None:
        chosen = select_rule(voices(n=600), np.zeros(600, dtype=bool))
        assert chosen.confidence.mean() == pytest.approx(chosen.right.mean(), abs=0.04)
