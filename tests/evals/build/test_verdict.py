"""The verdict of a build names sources in words."""

from __future__ import annotations

import pytest
from gsco.case import TaskKind
from gsco.evals.build.record import ArmNumbers, BuildRecord
from gsco.evals.metrics.uncertainty import Estimate


@pytest.mark.parametrize(
    ("source", "words"), [("knn", "similar cases"), ("specialist:probe224", "specialist probe224")]
)
def test_the_best_single_source_is_named_in_words(source: str, words: str) -> None:
    arms = [
        ArmNumbers(arm=arm, accuracy=Estimate(value=value, low=value - 0.05, high=value + 0.05, n=100))
        for arm, value in ((source, 0.8), ("specialist:probe", 0.7), ("gsco", 0.9))
    ]
    record = BuildRecord(
        name="n",
        version="1",
        inputs="",
        kind=TaskKind.DIAGNOSIS,
        folder="",
        dataset="",
        speed="fast",
        seed=0,
        counts={},
        images={},
        specialists={},
        retriever="",
        fitted=True,
        test_images=100,
        test_groups=100,
        arms=tuple(arms),
        best_source=source,
        majority=0.5,
    )
    assert f"the best single source, {words} 80.0% and a logistic regression" in record.verdict
