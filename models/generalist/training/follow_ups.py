"""Follow-up questions on a finished case, answered from the evidence in the conversation and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ....case import Missing, Opinion, SimilarCase
from .evidence import Random

QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "specialists": (
        "What did the specialists say?",
        "What do the specialist models think?",
        "List the opinions of the specialists.",
        "Which specialist said what?",
    ),
    "closest": (
        "Which similar case was closest?",
        "What was the most similar case?",
        "What was the diagnosis of the nearest known case?",
    ),
    "sure": ("How sure are you?", "How confident are you?", "How certain is this diagnosis?"),
    "why_not": ("Why not {option}?", "Could it be {option}?", "What speaks against {option}?"),
}


@dataclass(frozen=True)
class Finished:
    """What is known of a case when it is asked about."""

    options: tuple[str, ...]
    outcomes: tuple[Opinion | Missing, ...] = ()
    similar: tuple[SimilarCase, ...] = ()
    probabilities: Mapping[str, float] | None = None

    @property
    def ranked(self) -> list[str]:
        """Options by probability, the likeliest first."""
        values = self.probabilities or {}
        return sorted(values, key=lambda label: (-values[label], label))


def draw_follow_ups(random: Random, case: Finished, count: int) -> list[tuple[str, str]]:
    """Draw different questions with their answers."""
    kinds = [kind for kind in QUESTIONS if kind not in ("sure", "why_not") or case.probabilities]
    drawn = []
    for place in random.permutation(len(kinds))[:count]:
        kind = kinds[place]
        option = str(random.choice(case.ranked[1:])) if kind == "why_not" else ""
        question = str(random.choice(QUESTIONS[kind])).format(option=option)
        drawn.append((question, answer(kind, case, option)))
    return drawn


def answer(kind: str, case: Finished, option: str = "") -> str:
    """The answer to one kind of question; ``option`` is the one asked about."""
    if kind == "specialists":
        return "; ".join(map(_said, case.outcomes)) + "." if case.outcomes else "No specialist was asked."
    if kind == "closest":
        return closest(case.similar)
    values, ranked = case.probabilities or {}, case.ranked
    if kind == "sure":
        return f"{ranked[0]} {values[ranked[0]]:.0%}, then {ranked[1]} {values[ranked[1]]:.0%}."
    shares = f"{option} has {values[option]:.0%}, {ranked[0]} {values[ranked[0]]:.0%}."
    return f"{shares} {supporters(case.outcomes, option)}"


def closest(similar: Sequence[SimilarCase]) -> str:
    """The most similar case in one sentence."""
    if not similar:
        return "No similar case was retrieved."
    return f"Case 1: {', '.join(similar[0].labels)}, similarity {similar[0].similarity:.2f}."


def supporters(outcomes: Sequence[Opinion | Missing], option: str) -> str:
    """Who named an option."""
    names = [one.specialist for one in outcomes if isinstance(one, Opinion) and option in one.labels]
    return f"Specialists for {option}: {', '.join(names)}." if names else f"No specialist named {option}."


def _said(outcome: Opinion | Missing) -> str:
    if isinstance(outcome, Missing):
        return f"{outcome.source.removeprefix('specialist:')}: no opinion"
    label = outcome.labels[0]
    return f"{outcome.specialist}: {label} {outcome.probabilities[label]:.0%}"
