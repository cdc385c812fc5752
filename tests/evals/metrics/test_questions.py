"""Answers to questions against nltk, torchmetrics' SQuAD metric and cases worked out by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from gsco.evals.metrics.questions import bleu_1, closed_right, question_measures, token_f1, token_recall
from gsco.evals.metrics.uncertainty import estimate, paired
from gsco.evals.metrics.words import answer_words
from nltk.translate.bleu_score import sentence_bleu

WORDS = [
    "left",
    "lung",
    "upper",
    "lobe",
    "mass",
    "nodule",
    "heart",
    "kidney",
    "no",
    "yes",
    "pleural",
    "effusion",
]


def texts(n: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(1, 6))) for _ in range(n)]


def test_words_lose_case_punctuation_and_articles() -> None:
    assert answer_words("The Left-sided, T1-weighted (X-ray).") == ["left-sided", "t1-weighted", "x-ray"]
    assert answer_words("two masses, 0.5 cm") == ["2", "masses", "0.5", "cm"]


@pytest.mark.parametrize("seed", range(3))
def test_bleu_1_is_that_of_nltk(seed: int) -> None:
    for said, first, second in zip(texts(60, seed), texts(60, seed + 10), texts(60, seed + 20), strict=True):
        references = [answer_words(first), answer_words(second)]
        wanted = sentence_bleu(references, answer_words(said), weights=(1,))
        # Without any match nltk gives a tiny number in place of zero.
        assert bleu_1(said, [first, second]) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_f1_is_that_of_squad(seed: int) -> None:
    from torchmetrics.functional.text import squad

    for said, true in zip(texts(60, seed), texts(60, seed + 10), strict=True):
        found = squad(
            {"prediction_text": said, "id": "0"},
            {"answers": {"answer_start": [0], "text": [true]}, "id": "0"},
        )
        assert token_f1(said, [true]) == pytest.approx(float(found["f1"]) / 100, abs=1e-6)
        shared = sum((Counter(said.split()) & Counter(true.split())).values())
        assert token_recall(said, [true]) == pytest.approx(shared / len(true.split()))


@pytest.mark.parametrize(
    ("said", "accepted", "choices", "right"),
    [
        ("Yes", ["yes"], (), True),
        ("Yes, there is a mass.", ["yes"], (), True),
        ("No. It does not say yes.", ["yes"], (), False),
        ("There is no fracture", ["No"], (), True),
        ("I cannot tell", ["no"], (), False),
        ("left", ["Left"], (), True),
        ("the left", ["left", "left side"], (), True),
        ("left lung", ["left"], (), False),
        ("B", ["bone"], ("skin", "bone"), True),
        ("(B) bone", ["bone"], ("skin", "bone"), True),
        ("A: skin", ["bone"], ("skin", "bone"), False),
        ("It is bone.", ["bone"], ("skin", "bone"), True),
        ("bone or skin", ["bone"], ("skin", "bone"), False),
        ("C", ["bone"], ("skin", "bone"), False),
        ("A mass", ["mass"], ("cyst", "mass"), True),
        ("", ["no"], (), False),
        (None, ["no"], (), False),
    ],
)
def test_closed_answers(said, accepted, choices, right: bool) -> None:
    assert closed_right(said, accepted, choices) is right


def test_an_answer_that_never_came_is_wrong_everywhere() -> None:
    assert token_f1(None, ["x"]) == token_recall(None, ["x"]) == bleu_1(None, ["x"]) == 0
    assert token_f1("x", ["y", "x"]) == 1


def test_measures_are_over_their_kind_of_question_with_intervals() -> None:
    said = ["yes", "no", None, "left lung", "heart"]
    accepted = [["yes"], ["yes"], ["no"], ["lung"], ["heart"]]
    found = question_measures(said, accepted, [True, True, True, False, False])
    assert found["closed_accuracy"].value == pytest.approx(1 / 3) and found["closed_accuracy"].n == 3
    assert found["open_exact"].value == 0.5 and found["open_recall"].value == 1
    assert found["open_f1"].value == pytest.approx((2 / 3 + 1) / 2)
    estimates = estimate(found, ["a", "a", "b", "c", "d"], rounds=200)
    assert estimates["open_recall"].low == estimates["open_recall"].high == 1
    assert estimates["closed_accuracy"].low < 1 / 3 < estimates["closed_accuracy"].high
    assert "closed_accuracy" not in estimate(question_measures(["x"], [["x"]], [False]), ["a"], rounds=10)


def test_two_arms_are_compared_on_the_same_draws() -> None:
    accepted = [["yes"]] * 40
    closed = [True] * 40
    groups = [str(case // 2) for case in range(40)]
    good = question_measures(["yes"] * 30 + ["no"] * 10, accepted, closed)
    poor = question_measures(["yes"] * 10 + ["no"] * 30, accepted, closed)
    found = paired(good, poor, groups)["closed_accuracy"]
    assert found.value == pytest.approx(0.5) and found.low > 0 and found.p < 0.01
    same = paired(good, good, groups)["closed_accuracy"]
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
