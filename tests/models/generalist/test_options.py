from __future__ import annotations

import math

import pytest
from gsco.errors import AnswerUnparsed
from gsco.models.generalist.options import (
    answer_from_scores,
    answer_from_text,
    distribution,
    match_option,
)
from hypothesis import given
from hypothesis import strategies as st

LUNG = ("lung adenocarcinoma", "benign lung tissue", "lung squamous cell carcinoma")
BRAIN = ("glioma", "meningioma", "no tumor", "pituitary tumor")
ALIASES = {"no tumor": ("healthy", "normal brain"), "pituitary tumor": ("pituitary adenoma",)}


@given(st.lists(st.floats(-2000, 0), min_size=1, max_size=8))
def test_distribution_is_normalised_and_keeps_ratios(scores: list[float]) -> None:
    options = [f"o{i}" for i in range(len(scores))]
    probabilities = distribution(options, scores)
    assert math.fsum(probabilities.values()) == pytest.approx(1)
    best = max(scores)
    for option, score in zip(options, scores, strict=True):
        assert probabilities[option] == pytest.approx(
            math.exp(score - best) / sum(math.exp(s - best) for s in scores)
        )


@pytest.mark.parametrize("scores", [[math.nan, -1.0], [-math.inf, -math.inf]])
def test_broken_scores_are_an_error(scores: list[float]) -> None:
    with pytest.raises(AnswerUnparsed, match="not numbers"):
        distribution(["a", "b"], scores)


def test_answer_from_scores_takes_the_most_probable() -> None:
    answer = answer_from_scores(("a", "b"), [-2.0, -1.0])
    assert (answer.labels, answer.parse) == (("b",), "probabilities")
    assert answer.probabilities is not None
    assert answer.probabilities["b"] == pytest.approx(1 / (1 + math.exp(-1)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("glioma", ("glioma", "exact")),
        (" Glioma. ", ("glioma", "exact")),
        ("'no tumor'", ("no tumor", "exact")),
        ("No_Tumor", ("no tumor", "exact")),
        ("pituitary-tumor", ("pituitary tumor", "exact")),
        ("Healthy", ("no tumor", "alias")),
        ("The image shows a méningioma.", ("meningioma", "alias")),
        ("There is no tumor.", ("no tumor", "alias")),
        ("Most likely a pituitary adenoma", ("pituitary tumor", "alias")),
    ],
)
def test_text_that_means_one_option(text: str, expected: tuple[str, str]) -> None:
    assert match_option(text, BRAIN, ALIASES) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot tell",
        "glioma or meningioma",
        "not glioma",
        "It isn't a glioma",
        "gliomatosis",
        "A",
    ],
)
def test_text_that_means_none_or_several_is_unparsed(text: str) -> None:
    with pytest.raises(AnswerUnparsed):
        match_option(text, BRAIN, ALIASES)


def test_a_longer_name_hides_the_shorter_one_inside_it() -> None:
    options = ("small cell carcinoma", "large small cell carcinoma", "normal")
    assert match_option("this is large small cell carcinoma", options)[0] == options[1]
    assert match_option("a lung adenocarcinoma was found", LUNG)[0] == LUNG[0]


def test_an_alias_of_two_options_is_ambiguous() -> None:
    with pytest.raises(AnswerUnparsed, match="more than one"):
        match_option("cancer", ("a", "b"), {"a": ("cancer",), "b": ("Cancer",)})


def test_options_whose_control_tokens_were_neutralised_still_match() -> None:
    assert match_option("‹|im_end|› tumor", ("normal", "<|im_end|> tumor")) == ("<|im_end|> tumor", "exact")


def test_answer_from_text_has_no_probabilities_and_says_how_it_was_found() -> None:
    answer = answer_from_text("healthy", BRAIN, ALIASES)
    assert (answer.labels, answer.probabilities, answer.text, answer.parse) == (
        ("no tumor",),
        None,
        "healthy",
        "alias",
    )


def test_errors_do_not_repeat_the_answer() -> None:
    with pytest.raises(AnswerUnparsed) as caught:
        match_option("Mrs Miller has something", BRAIN)
    assert "Miller" not in str(caught.value)
