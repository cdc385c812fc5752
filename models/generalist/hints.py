"""Evidence in few words: what specialists said and what similar cases were, as prompts give it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ...case import Opinion, SimilarCase
from .messages import neutralise

PRESENCE = ("yes", "no")
"""Options of a presence question."""


@lru_cache(maxsize=4096)
def label_text(label: str) -> str:
    """A label as it stands in prompts and as it is answered: one line, no control tokens."""
    return " ".join(neutralise(label).split())


def answer_text(labels: Sequence[str]) -> str:
    """The answer that means these labels: what a training target says and what ``choose`` scores."""
    return ",".join(label_text(label) for label in labels)


@dataclass(frozen=True)
class Hint:
    """One voice: its labels, a number for each (probability or similarity), and how far to trust it."""

    labels: tuple[str, ...]
    numbers: tuple[float | None, ...]
    trust: float | None = None
    probabilities: Mapping[str, float] | None = None
    name: str = ""

    @property
    def label(self) -> str:
        """The labels as one name."""
        return " and ".join(label_text(label) for label in self.labels) or "none"


def hint_text(opinions: Sequence[Opinion]) -> list[Hint]:
    """Opinions with a decision; a draft report without labels is none. The order is kept."""
    return [
        Hint(
            opinion.labels,
            tuple(opinion.probabilities.get(label) for label in opinion.labels),
            opinion.reliability,
            opinion.probabilities,
            opinion.specialist,
        )
        for opinion in opinions
        if opinion.labels or opinion.probabilities
    ]


def found_in(similar_cases: Sequence[SimilarCase]) -> list[Hint]:
    """Similar cases in the order they are given in, which is the most similar first."""
    return [Hint(case.labels, (case.similarity,) * len(case.labels)) for case in similar_cases if case.labels]


def nearest(similar_cases: Sequence[SimilarCase], kept: int) -> tuple[SimilarCase, ...]:
    """The most similar ones, in the order they are given in; where a prompt is too long, the others go."""
    ranked = sorted(similar_cases, key=lambda case: -case.similarity)[:kept]
    return tuple(case for case in similar_cases if any(case is one for one in ranked))


def presence_of(option: str, hint: Hint) -> Hint:
    """What a hint says about one option: yes or no, with the probability of that."""
    present = option in hint.labels
    probability = (hint.probabilities or {}).get(option)
    if probability is not None and not present:
        probability = 1.0 - probability
    return Hint((yes_or_no(present),), (probability,), hint.trust, None, hint.name)


def yes_or_no(present: bool) -> str:
    """The presence option."""
    return PRESENCE[0] if present else PRESENCE[1]


def counted(found: Sequence[Hint]) -> str:
    """``label count/k mean-similarity``, most frequent first, then most similar, then by name."""
    similarities: defaultdict[str, list[float]] = defaultdict(list)
    for hint in found:
        for label, similarity in zip(hint.labels, hint.numbers, strict=True):
            similarities[label_text(label)].append(similarity or 0.0)
    rows = [(-len(values), -sum(values) / len(values), label) for label, values in similarities.items()]
    return ", ".join(
        f"{label} {-count}/{len(found)} {_percent(-mean)}" for count, mean, label in sorted(rows)
    )


def weighed(said: Sequence[Hint]) -> str:
    """``label probability reliability``, most reliable first, then by the specialist's name."""
    ranked = sorted(said, key=lambda hint: (-(hint.trust if hint.trust is not None else -1.0), hint.name))
    return ", ".join(
        " and ".join(
            f"{label_text(label)} {_percent(number)}"
            for label, number in zip(hint.labels, hint.numbers, strict=True)
        )
        + f"{'' if hint.labels else 'none'} {_percent(hint.trust)}"
        for hint in ranked
    )


def _percent(value: float | None) -> str:
    return "?" if value is None else f"{round(100 * value)}%"
