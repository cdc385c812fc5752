"""Rates against what was counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from gsco.evals.arbitration.rates import TaskAnswers, against_vote, rates

from .test_conditions import TASK, known

#        evidence says: a    b    b    a    (truth a); alone: a, a, c, b
SPOKEN = ("aaa", "bbb", "bba", "aab")
ALONE = ("a", "a", "c", "b")
GSCO = ("a", "a", "b", "a")
VOTE = ("a", "b", "b", "a")


def made(**changes: tuple[str | None, ...]) -> TaskAnswers:
    cases = [known(f"case {k}", said=spoken, near=spoken[0]) for k, spoken in enumerate(SPOKEN)]
    labels: dict[tuple[str, str], tuple[str | None, ...]] = {
        ("", "generalist"): ALONE,
        ("", "vote"): VOTE,
        **{("", arm): GSCO for arm in ("moed", "rad", "gsco-paper")},
    }
    for condition, arms in (
        ("specialists wrong", ("gsco-paper",)),
        ("all evidence wrong", ("moed", "rad", "gsco-paper")),
        ("all evidence wrong at random", ("gsco-paper",)),
        ("all evidence right", ("moed", "rad", "gsco-paper")),
        ("neighbours shuffled", ("rad", "gsco-paper")),
        ("another's evidence", ("gsco-paper",)),
        ("noise image", ("generalist", "gsco-paper")),
        ("options permuted 1", ("generalist", "gsco-paper")),
        ("options permuted 2", ("generalist", "gsco-paper")),
        ("options permuted 3", ("generalist", "gsco-paper")),
    ):
        for arm in arms:
            labels[condition, arm] = changes.get(f"{condition}, {arm}", GSCO)
    numbers = {("noise image", "generalist"): np.array([0.5, 0.7, 0.6, np.nan])}
    return TaskAnswers(TASK, cases, labels, numbers)


def values(said: TaskAnswers) -> dict[tuple[str, str], tuple[float, int] | None]:
    return {
        (rate.name, rate.arm): None if rate.mean is None else (rate.mean.value, rate.mean.n)
        for rate in rates([said], rounds=50)
    }


def test_natural_conflicts_are_counted() -> None:
    found = values(made())
    # Case 1: alone right, evidence b, kept. Cases 0 and 1 are those where it was right.
    assert found["uphold: natural conflict, alone right", "gsco-paper"] == (1.0, 1)
    # Case 3: alone wrong, evidence right, corrected. Case 2: both wrong, so it does not count.
    assert found["self-correct: natural conflict, alone wrong, evidence right", "gsco-paper"] == (1.0, 1)


def test_forced_conflicts_are_counted() -> None:
    found = values(
        made(
            **{
                "all evidence wrong, gsco-paper": ("a", "b", "b", "b"),
                "all evidence right, gsco-paper": ("a", "a", "a", "c"),
            }
        )
    )
    assert found["truth found: all evidence wrong", "gsco-paper"] == (0.25, 4)
    assert found["uphold: all evidence wrong, alone right", "gsco-paper"] == (0.5, 2)
    assert found["self-correct: all evidence right, alone wrong", "gsco-paper"] == (0.5, 2)
    assert found["lure followed: all evidence wrong", "gsco-paper"] == (0.75, 4)


def test_no_answer_is_wrong_and_no_such_case_is_no_rate() -> None:
    found = values(made(**{"specialists wrong, gsco-paper": (None, "a", "a", "a")}))
    assert found["truth found: specialists wrong, neighbours real", "gsco-paper"] == (0.75, 4)
    said = made()
    right = TaskAnswers(TASK, said.cases, {**said.labels, ("", "generalist"): ("a",) * 4}, said.probabilities)
    assert values(right)["self-correct: all evidence right, alone wrong", "gsco-paper"] is None


def test_order_and_noise() -> None:
    found = values(made(**{"options permuted 2, gsco-paper": ("a", "a", "b", "c")}))
    assert found["same answer in any order of options", "gsco-paper"] == (0.75, 4)
    assert found["confidence alone: noise image", "gsco-paper"] == (pytest.approx(0.6), 3)


def test_the_mean_is_over_tasks_and_the_interval_holds_it() -> None:
    one, other = made(), made(**{"all evidence wrong, gsco-paper": ("b", "b", "b", "b")})
    other = TaskAnswers(TASK.model_copy(update={"name": "u"}), other.cases, other.labels, other.probabilities)
    rate = next(
        r for r in rates([one, other]) if (r.name, r.arm) == ("truth found: all evidence wrong", "gsco-paper")
    )
    assert rate.mean is not None
    assert rate.mean.value == pytest.approx((0.75 + 0.0) / 2)
    assert rate.mean.low <= rate.mean.value <= rate.mean.high
    assert set(rate.tasks) == {"t", "u"}


def test_gsco_against_the_vote_where_specialists_disagree() -> None:
    found = against_vote([made()])
    assert found is not None
    # Cases 2 (both wrong) and 3 (both right) are split.
    assert (found.value, found.n) == (0.0, 2)
