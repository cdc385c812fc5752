"""Ways of altering a case before the generalist decides it: pure functions of what is known about it."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...case import Case, Evidence, Opinion, SimilarCase, Task
from ..arms import knn, mean

Arm = Literal["generalist", "moed", "rad", "gsco-paper"]
PERMUTATIONS = 3


@dataclass(frozen=True)
class Known:
    """A case with all that is known about it.

    Attributes:
        id: of the case.
        group: patient or group.
        truth: the true option.
        case: as the generalist sees it.
        evidence: real opinions and similar cases.
        noise: the same case with an image of noise.
    """

    id: str
    group: str
    truth: str
    case: Case
    evidence: Evidence
    noise: Case


@dataclass(frozen=True)
class ConditionQuestion:
    """What is put to the generalist."""

    case: Case
    task: Task
    evidence: Evidence


Others = Mapping[str, Known]
Alter = Callable[[Known, Task, Others], ConditionQuestion]
"""Of a case, its task, and by case whose evidence a mix-up brings."""


@dataclass(frozen=True)
class Condition:
    """One alteration, and the arms that it is tried with."""

    name: str
    arms: tuple[Arm, ...]
    alter: Alter


def restricted(evidence: Evidence, arm: Arm) -> Evidence:
    """Leave an arm what it sees: opinions for moed, similar cases for rad."""
    return evidence.model_copy(
        update={
            "opinions": evidence.opinions if arm in ("moed", "gsco-paper") else (),
            "similar_cases": evidence.similar_cases if arm in ("rad", "gsco-paper") else (),
        }
    )


def evidence_label(evidence: Evidence, task: Task, arm: Arm) -> str | None:
    """The label that an arm's evidence amounts to; None without any.

    Each specialist has one voice, the similar cases together have one; of equals the label with the larger
    mean probability.
    """
    voices = Counter[str]()
    if arm in ("moed", "gsco-paper"):
        voices.update(opinion.labels[0] for opinion in evidence.opinions if opinion.labels)
    if arm in ("rad", "gsco-paper") and evidence.similar_cases:
        voices.update(knn(task, evidence).labels)
    if not voices:
        return None
    means = _probable(task, evidence)
    return max(task.options, key=lambda option: (voices[option], means[option]))


def hard_lure(known: Known, task: Task) -> str:
    """The wrong option that the specialists find most probable."""
    means = _probable(task, known.evidence)
    return max((option for option in task.options if option != known.truth), key=lambda name: means[name])


def random_lure(known: Known, task: Task) -> str:
    """A wrong option, drawn by the case's name."""
    others = [option for option in task.options if option != known.truth]
    return others[zlib.crc32(known.id.encode()) % len(others)]


def mixed_up(cases: Sequence[Known], seed: int = 0) -> dict[str, Known]:
    """By case, another one: a cycle through all of them in random order, so that nobody keeps its own."""
    order = np.random.default_rng(seed).permutation(len(cases))
    following = np.roll(order, -1)
    return {cases[here].id: cases[there] for here, there in zip(order, following, strict=True)}


def _probable(task: Task, evidence: Evidence) -> Mapping[str, float]:
    if any(opinion.probabilities for opinion in evidence.opinions):
        return mean(task, evidence).probabilities or {}
    return (
        knn(task, evidence).probabilities or {}
        if evidence.similar_cases
        else dict.fromkeys(task.options, 0.0)
    )


def mislead(
    opinions: Sequence[Opinion], similar: Sequence[SimilarCase], lure: str
) -> tuple[tuple[Opinion, ...], tuple[SimilarCase, ...]]:
    """Let all evidence name one label; numbers stay as plausible as they were.

    In each opinion what was said and the lure change places; similar cases keep their similarities. No
    training makes its misleading evidence in this way.
    """
    return (
        tuple(_misled(opinion, lure) for opinion in opinions),
        tuple(case.model_copy(update={"labels": (lure,)}) for case in similar),
    )


def _misled(opinion: Opinion, lure: str) -> Opinion:
    said, values = opinion.labels[0], dict(opinion.probabilities)
    values[said], values[lure] = values[lure], values[said]
    return opinion.model_copy(update={"labels": (lure,), "probabilities": values})


def _forced(evidence: Evidence, label: str, *, neighbours: bool = True) -> Evidence:
    opinions, similar = mislead(evidence.opinions, evidence.similar_cases, label)
    changed = {"opinions": opinions, "similar_cases": similar if neighbours else evidence.similar_cases}
    return evidence.model_copy(update=changed)


def _specialists_wrong(known: Known, task: Task, others: Others) -> ConditionQuestion:
    evidence = _forced(known.evidence, hard_lure(known, task), neighbours=False)
    return ConditionQuestion(known.case, task, evidence)


def _all_wrong(known: Known, task: Task, others: Others) -> ConditionQuestion:
    return ConditionQuestion(known.case, task, _forced(known.evidence, hard_lure(known, task)))


def _all_wrong_at_random(known: Known, task: Task, others: Others) -> ConditionQuestion:
    return ConditionQuestion(known.case, task, _forced(known.evidence, random_lure(known, task)))


def _all_right(known: Known, task: Task, others: Others) -> ConditionQuestion:
    return ConditionQuestion(known.case, task, _forced(known.evidence, known.truth))


def _neighbours_shuffled(known: Known, task: Task, others: Others) -> ConditionQuestion:
    """Labels of the neighbours of as many other cases as there are neighbours."""
    found, place = [], known
    for case in known.evidence.similar_cases:
        place = others[place.id]
        strange = place.evidence.similar_cases
        found.append(case.model_copy(update={"labels": strange[0].labels}) if strange else case)
    return ConditionQuestion(
        known.case, task, known.evidence.model_copy(update={"similar_cases": tuple(found)})
    )


def _another_s_evidence(known: Known, task: Task, others: Others) -> ConditionQuestion:
    return ConditionQuestion(known.case, task, others[known.id].evidence)


def _noise(known: Known, task: Task, others: Others) -> ConditionQuestion:
    return ConditionQuestion(known.noise, task, known.evidence)


def _permuted(number: int) -> Alter:
    def alter(known: Known, task: Task, others: Others) -> ConditionQuestion:
        seed = [zlib.crc32(known.id.encode()), number]
        order = np.random.default_rng(seed).permutation(len(task.options))
        options = tuple(task.options[place] for place in order)
        return ConditionQuestion(known.case, task.model_copy(update={"options": options}), known.evidence)

    return alter


SPECIALISTS_WRONG = Condition("specialists wrong", ("gsco-paper",), _specialists_wrong)
ALL_WRONG = Condition("all evidence wrong", ("moed", "rad", "gsco-paper"), _all_wrong)
ALL_WRONG_AT_RANDOM = Condition("all evidence wrong at random", ("gsco-paper",), _all_wrong_at_random)
ALL_RIGHT = Condition("all evidence right", ("moed", "rad", "gsco-paper"), _all_right)
SHUFFLED = Condition("neighbours shuffled", ("rad", "gsco-paper"), _neighbours_shuffled)
ANOTHERS = Condition("another's evidence", ("gsco-paper",), _another_s_evidence)
NOISE = Condition("noise image", ("generalist", "gsco-paper"), _noise)
PERMUTED = tuple(
    Condition(f"options permuted {number}", ("generalist", "gsco-paper"), _permuted(number))
    for number in range(1, PERMUTATIONS + 1)
)
CONDITIONS = (
    SPECIALISTS_WRONG, ALL_WRONG, ALL_WRONG_AT_RANDOM, ALL_RIGHT, SHUFFLED, ANOTHERS, NOISE, *PERMUTED
)  # fmt: skip
