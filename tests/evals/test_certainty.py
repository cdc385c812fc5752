"""Studies of certificates and alarms over cases whose truth is known, since it was drawn."""

from __future__ import annotations

import numpy as np
import pytest
from gsco.case import Evidence, GateReport
from gsco.evals.certainty import DecidedCase, study_certificate, study_drift, study_false_alarms
from gsco.graphs.drift import DriftScores


def decided(n: int, *, oversure: float = 0.0, seed: int = 0) -> list[DecidedCase]:
    """Cases of patients with two images each, right as often as they are sure, less ``oversure``."""
    random = np.random.default_rng(seed)
    confidence = random.beta(4, 1, n)
    right = random.random(n) < confidence - oversure
    return [
        DecidedCase(
            group=f"patient-{number // 2}",
            confidence=float(sure),
            right=bool(hit),
            eligible=True,
            truth=("a",),
            said=("a",) if hit else ("b",),
            evidence=Evidence(gate=GateReport(task="drawn")),
            sha256="",
        )
        for number, (sure, hit) in enumerate(zip(confidence, right, strict=True))
    ]


@pytest.mark.parametrize("oversure", [0.0, 0.05])
def test_a_promise_is_broken_no_more_often_than_it_says(oversure: float) -> None:
    """However sure the decisions are of themselves: the limit goes by what was right."""
    found = study_certificate("drawn", decided(900, oversure=oversure), 0.2, rounds=100)
    assert found.broken <= 0.1 + 3 * (0.1 * 0.9 / 100) ** 0.5
    assert found.error < 0.2 and found.groups == 450 and found.refused < 1
    assert 0.3 < found.coverage <= found.best + 0.1


def test_too_few_patients_promise_nothing() -> None:
    assert study_certificate("drawn", decided(60), 0.02, rounds=20).refused == 1


def scores(n: int, *, moved: float = 0.0, seed: int = 0) -> list[DriftScores]:
    random = np.random.default_rng(seed)
    return [
        DriftScores(doubt=float(doubt), distance=float(distance))
        for doubt, distance in np.stack([random.gamma(2, 0.1, n) + moved, random.gamma(3, 0.1, n)], axis=1)
    ]


def test_alarms_over_a_thousand_cases_of_the_same_kind_are_few() -> None:
    found = study_false_alarms("drawn", scores(3000), reference=200, streams=60)
    assert found.cases == 1000
    assert found.rang <= 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5


def test_cases_of_another_kind_are_noticed() -> None:
    found = study_drift("drawn", "harder", scores(200), scores(400, moved=0.2, seed=1), streams=20)
    assert found.rang == 1 and found.median is not None and found.median <= 150
