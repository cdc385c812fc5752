import numpy as np
import pytest
from gsco.graphs.certificate import certify, needed_answers
from gsco.graphs.collaboration_fit import HeldOutScores


def scores(confidence, right, truth=None, said=None, eligible=None) -> HeldOutScores:
    n = len(confidence)
    return HeldOutScores(
        confidence=tuple(map(float, confidence)),
        right=tuple(map(bool, right)),
        eligible=tuple(map(bool, eligible)) if eligible is not None else (True,) * n,
        truth=tuple(truth) if truth is not None else (("a",),) * n,
        said=tuple(said) if said is not None else (("a",),) * n,
    )


def drawn(rng, n):
    """Cases whose confidence is exactly calibrated."""
    confidence = 0.5 + 0.5 * rng.beta(2, 1, n)
    return confidence, rng.random(n) < confidence


@pytest.mark.parametrize(("max_error", "needed"), [(0.1, 22), (0.05, 45), (0.02, 114), (0.01, 230)])
def test_the_least_number_of_cases_is_that_of_the_binomial(max_error, needed):
    assert needed_answers(max_error) == needed
    few = certify(scores([0.99] * (needed - 1), [True] * (needed - 1)), max_error)
    assert few.limit is None and f"at least {needed} held-out patients are needed" in few.words
    enough = certify(scores([0.999] * needed, [True] * needed), max_error)
    assert enough.limit is not None and enough.coverage == 1.0


def test_the_promise_is_kept_in_as_many_draws_as_it_says():
    rng = np.random.default_rng(3)
    broken = given = 0
    confidence, right = drawn(rng, 20_000)
    for _ in range(200):
        rows = rng.integers(0, 20_000, 300)
        found = certify(scores(confidence[rows], right[rows]), 0.1)
        if found.limit is None:
            continue
        given += 1
        broken += (~right[confidence >= found.limit]).mean() > 0.1
    assert given > 100
    assert broken / 200 <= 0.1 + 2 * np.sqrt(0.1 * 0.9 / 200)


def test_hopeless_cases_get_no_promise_and_the_reason_is_said():
    rng = np.random.default_rng(0)
    found = certify(scores(rng.uniform(0.5, 1, 400), rng.random(400) < 0.6), 0.05)
    assert found.limit is None and "too many were answered wrongly" in found.words


def test_cases_that_are_left_to_a_person_anyhow_count_as_left():
    right = np.array([True] * 100 + [False] * 100)
    found = certify(scores([0.99] * 200, right, eligible=right), 0.05)
    assert found.answered == 100 and found.wrong == 0 and found.coverage == 0.5


def test_a_floor_by_class_keeps_misses_of_that_class_rare():
    rng = np.random.default_rng(5)
    n = 2000
    truth = np.where(rng.random(n) < 0.3, "malignant", "benign")
    confidence = rng.uniform(0.5, 1.0, n)
    right = rng.random(n) < np.where(truth == "malignant", 2 * confidence - 1, 0.5 + confidence / 2)
    said = np.where(right, truth, np.where(truth == "malignant", "benign", "malignant"))
    held_out = scores(confidence, right, [(t,) for t in truth], [(s,) for s in said])
    loose = certify(held_out, 0.2)
    strict = certify(held_out, 0.2, floors=(("malignant", 0.05),))
    assert strict.limit is not None and loose.limit is not None and strict.limit > loose.limit
    alone = confidence >= strict.limit
    missed = (alone & (said != "malignant"))[truth == "malignant"].mean()
    assert missed <= 0.05 and "at most 5% of malignant missed" in strict.words
    assert certify(held_out, 0.2, floors=(("rare", 0.01),)).limit is None, "no case of that label"
