"""Simulated evidence for training prompts: opinions and similar cases whose quality is known.

What an opinion says of itself is true: its reliability is the balanced accuracy that the expert really
has, up to the noise of a validation split of ordinary size, and its probability is calibrated. So the
only way to profit from the numbers is to believe them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ....case import Opinion, SimilarCase
from .config import EvidenceConfig

Random = np.random.Generator

NO_HASH = "0" * 64
VALIDATION_SIZES = (60, 600)
"""Of the made-up validation splits on which reliabilities were measured."""


@dataclass(frozen=True)
class Circumstances:
    """What all experts and neighbours of one case share."""

    options: tuple[str, ...]
    truth: int
    difficulty: float
    """Standard normal; hard cases are hard for everybody."""
    shared: float
    """Share of an error's variance that comes from the difficulty, 0 to 1."""
    lure: int
    """The wrong option that this case looks like."""
    luring: float
    """How often an error is the lure."""
    misled: bool = False
    """All evidence names the lure."""


def draw_circumstances(
    random: Random, options: Sequence[str], truth: int, settings: EvidenceConfig
) -> Circumstances:
    """Draw what a case's evidence has in common."""
    others = [index for index in range(len(options)) if index != truth]
    return Circumstances(
        options=tuple(options),
        truth=truth,
        difficulty=float(random.normal()),
        shared=float(random.uniform(0.0, 0.9)),
        lure=int(random.choice(others)),
        luring=settings.shared_errors,
        misled=bool(random.random() < settings.all_wrong),
    )


def draw_opinions(random: Random, case: Circumstances, settings: EvidenceConfig) -> tuple[Opinion, ...]:
    """A panel's opinions on one case; every expert is good, bad or one-sided."""
    count = int(random.integers(settings.experts[0], settings.experts[1] + 1))
    return tuple(
        draw_opinion(random, case, draw_recalls(random, len(case.options), settings), f"specialist-{index}")
        for index in range(count)
    )


def draw_recalls(random: Random, options: int, settings: EvidenceConfig) -> npt.NDArray[np.float64]:
    """An expert's recall per option, (options,)."""
    weights = np.array([settings.good, settings.bad, settings.one_sided])
    kind = random.choice(3, p=weights / weights.sum())
    chance = 1.0 / options
    if kind == 2:
        recalls = random.uniform(0.3 * chance, 0.7, size=options)
        recalls[random.integers(options)] = random.uniform(0.9, 1.0)
        return recalls
    low, high = (max(0.65, chance), 0.98) if kind == 0 else (0.6 * chance, 0.7)
    return np.clip(random.uniform(low, high) + random.normal(0, 0.05, size=options), 0.02, 0.995)


def draw_opinion(random: Random, case: Circumstances, recalls: npt.NDArray[np.float64], name: str) -> Opinion:
    """One expert's opinion.

    Args:
        random: source of the random numbers.
        case: what is shared by all experts on this case.
        recalls: how often the expert is right, per option.
        name: of the expert.
    """
    count = len(case.options)
    said = case.lure if case.misled else _opinion(random, case, recalls)
    precision = _precision(recalls, said)
    strength = random.uniform(2.0, 10.0)
    right = said == case.truth
    # A calibrated probability has a beta law that splits into these two, for right and wrong answers.
    probability = random.beta(strength * precision + right, strength * (1 - precision) + (not right))
    reliability = float(recalls.mean())
    size = random.integers(*VALIDATION_SIZES)
    measured = reliability + random.normal() * math.sqrt(reliability * (1 - reliability) / size)
    return Opinion(
        specialist=name,
        architecture="simulated",
        labels=(case.options[said],),
        probabilities=dict(
            zip(
                case.options, _spread(random, said, count, max(float(probability), 1.02 / count)), strict=True
            )
        ),
        reliability=min(1.0, max(0.0, measured)),
    )


def draw_neighbours(random: Random, case: Circumstances, settings: EvidenceConfig) -> tuple[SimilarCase, ...]:
    """Similar cases, most similar first; encoders are good or bad, and neighbours err together."""
    count = int(random.integers(settings.neighbours[0], settings.neighbours[1] + 1))
    chance = 1.0 / len(case.options)
    quality = random.uniform(chance, 0.97)
    purity = _logistic(_logit(quality) - 1.5 * _mixed(random, case) + 0.3 * random.normal())
    closest, fall = random.uniform(0.5, 0.97), random.exponential(0.02)
    similarities = np.sort(closest - fall * np.arange(count) + random.normal(0, 0.01, size=count))[::-1]
    others = [index for index in range(len(case.options)) if index != case.truth]
    found = []
    for similarity in similarities:
        if case.misled:
            label = case.lure
        elif random.random() < purity:
            label = case.truth
        else:
            label = case.lure if random.random() < 0.75 else int(random.choice(others))
        found.append(similar_case(case.options[label], float(similarity)))
    return tuple(found)


def similar_case(label: str, similarity: float) -> SimilarCase:
    """A similar case that only has a label and a similarity."""
    similarity = min(1.0, max(-1.0, similarity))
    return SimilarCase(
        id="training",
        sha256=NO_HASH,
        task="training",
        labels=(label,),
        similarity=similarity,
        encoder="training",
    )


def _opinion(random: Random, case: Circumstances, recalls: npt.NDArray[np.float64]) -> int:
    if _normal_share(_mixed(random, case)) < recalls[case.truth]:
        return case.truth
    if random.random() < case.luring:
        return case.lure
    # Those who err do so towards what they say too often.
    weights = recalls.copy()
    weights[case.truth] = 0.0
    return int(random.choice(len(recalls), p=weights / weights.sum()))


def _mixed(random: Random, case: Circumstances) -> float:
    """A standard normal whose correlation over the case's experts is ``shared``."""
    return math.sqrt(case.shared) * case.difficulty + math.sqrt(1 - case.shared) * float(random.normal())


def _normal_share(value: float) -> float:
    return 0.5 * (1 + math.erf(value / math.sqrt(2)))


def _precision(recalls: npt.NDArray[np.float64], said: int) -> float:
    """How often an expert is right where it says this, over equally frequent options."""
    weights = np.broadcast_to(recalls, (len(recalls), len(recalls))).copy()
    np.fill_diagonal(weights, 0.0)
    wrong = sum(
        (1 - recalls[truth]) * weights[truth, said] / weights[truth].sum()
        for truth in range(len(recalls))
        if truth != said
    )
    return float(np.clip(recalls[said] / (recalls[said] + wrong + 1e-9), 0.03, 0.97))


def _spread(random: Random, said: int, count: int, probability: float) -> list[float]:
    """Probabilities of all options; what is left is spread so that none exceeds the one that was said."""
    probability = min(probability, 0.999)
    rest = random.dirichlet(np.ones(count - 1)) * (1 - probability)
    if rest.max() >= probability:
        rest = np.full(count - 1, (1 - probability) / (count - 1))
    return [float(value) for value in np.insert(rest, said, probability)]


def _logit(value: float) -> float:
    return math.log(value / (1 - value))


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))
