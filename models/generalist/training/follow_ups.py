"""Follow-up questions on a finished case, answered from the evidence in the conversation and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from ..statements import Finished, closest, shares, specialists, supporters
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
        return specialists(case)
    if kind == "closest":
        return closest(case.similar)
    if kind == "sure":
        return shares(case, 2)
    values, first = case.probabilities or {}, case.ranked[0]
    compared = f"{option} has {values[option]:.0%}, {first} {values[first]:.0%}."
    return f"{compared} {supporters(case.outcomes, option)}"
