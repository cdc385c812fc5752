"""Retrieval, influence and the agent's way, by cases worked out by hand and by numpy."""

from __future__ import annotations

import numpy as np
import pytest
from gsco.evals.metrics.consultations import Consultation, consultation_measures, quantile, right_tools
from gsco.evals.metrics.draws import draws
from gsco.evals.metrics.retrieval import influence_measures, label_agreement, retrieval_measures
from gsco.evals.metrics.uncertainty import estimate


def test_label_agreement_counts_the_nearest_ones() -> None:
    truth = [("a",), ("b",), ("a", "b"), ("a",)]
    similar = [[("a",), ("b",)], [("a",), ("b",)], [("b", "a"), ("a",)], []]
    assert label_agreement(truth, similar, 1)[:3].tolist() == [1, 0, 1]
    assert label_agreement(truth, similar, 5)[:3].tolist() == [0.5, 0.5, 0.5]
    found = retrieval_measures(truth, similar, (1, 2))
    assert found["agreement_at_1"].value == pytest.approx(2 / 3) and found["agreement_at_1"].n == 3
    assert found["hit_at_2"].value == 1


def test_influence_is_over_those_it_could_change() -> None:
    alone = np.array([True, True, True, True, False, False])
    told = np.array([True, True, True, False, True, False])
    found = influence_measures(alone, told)
    assert found["rescued"].value == 0.5 and found["rescued"].n == 2
    assert found["misled"].value == 0.25 and found["misled"].n == 4
    assert found["net"].value == pytest.approx(0)
    assert "rescued" not in estimate(
        influence_measures(np.ones(3, bool), np.ones(3, bool)), list("abc"), rounds=5
    )


def test_tools_may_be_called_more_than_is_needed_unless_strictly() -> None:
    one = Consultation(called=("look", "search"), wanted=("search",))
    assert right_tools(one) and not right_tools(one, strict=True)
    assert not right_tools(Consultation(called=("search",), wanted=("search", "search")))
    assert right_tools(Consultation(called=(), wanted=()), strict=True)


def test_consultations() -> None:
    found = consultation_measures(
        [
            Consultation(
                called=("a", "b"), wanted=("a",), prompt_tokens=10, completion_tokens=5, seconds=1.0
            ),
            Consultation(called=("b",), wanted=("a",), failed_calls=1, prompt_tokens=20, seconds=3.0),
            Consultation(called=(), wanted=None),
        ]
    )
    assert found["tool_choice"].value == 0.5 and found["tool_choice"].n == 2
    assert found["first_tool"].value == 0.5 and found["calls"].value == 1
    assert found["failed_calls"].value == pytest.approx(1 / 3)
    assert found["tokens"].value == 17.5 and found["seconds"].value == 2 and found["seconds"].n == 2
    estimates = estimate(found, list("xyz"), rounds=100)
    assert estimates["seconds_p95"].value == 3
    assert "tokens" not in estimate(consultation_measures([Consultation()]), ["x"], rounds=5)


def test_the_kernel_of_a_quantile_is_that_of_the_drawn_cases() -> None:
    values = np.round(np.random.default_rng(0).exponential(size=50), 2)
    values[::7] = np.nan
    weights = np.concatenate(list(draws(list(map(str, range(50))), rounds=30, seed=1)))
    for share in (0.5, 0.95):
        found = quantile(values, share).kernel(weights)
        for draw, times in enumerate(weights):
            drawn = np.repeat(values, times.astype(int))
            wanted = np.quantile(drawn[~np.isnan(drawn)], share, method="inverted_cdf")
            assert found[draw] == pytest.approx(wanted)
