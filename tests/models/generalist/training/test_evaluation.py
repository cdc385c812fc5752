import pytest
from gsco.case import Opinion, SimilarCase
from gsco.models.generalist.training.evaluation import line, vote
from gsco.models.generalist.training.evidence import similar_case
from gsco.models.generalist.training.example import ImageView, TrainingPrompt


def prompt(said: str, found: str) -> TrainingPrompt:
    opinions = tuple(
        Opinion(specialist=f"s{n}", architecture="x", labels=(name,)) for n, name in enumerate(said)
    )
    similar: tuple[SimilarCase, ...] = tuple(similar_case(name, 0.9) for name in found)
    return TrainingPrompt("", "a", ("a", "b"), ImageView(0, 0), "both", opinions, similar)


@pytest.mark.parametrize(
    ("said", "found", "expected"), [("aab", "bbb", "a"), ("", "abb", "b"), ("ba", "", "b")]
)
def test_the_vote(said: str, found: str, expected: str) -> None:
    assert vote(prompt(said, found)) == expected


def test_a_line_says_arms_and_tasks() -> None:
    text = line({"plain": {"toy": 0.75, "mean": 0.75}, "both, vote": {"toy": 0.5, "mean": 0.5}})
    assert "plain 75%" in text
    assert "both, vote 50%" in text
    assert "toy 75%" in text
