"""From answers to rates: how often the generalist keeps, corrects, follows and holds out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...case import Record, Task
from ...models.metrics.answers import Bools, Floats
from ...models.metrics.draws import ROUNDS, bootstrap, interval, mean_of, mean_over
from ..conditions import GatheredCase
from ..metrics.uncertainty import Difference, Estimate, difference
from .conditions import PERMUTATIONS, Arm, evidence_label, hard_lure, random_lure

ARMS: tuple[Arm, ...] = ("moed", "rad", "gsco-paper")


@dataclass(frozen=True)
class TaskAnswers:
    """What was answered about one task's cases.

    Attributes:
        task: its card.
        cases: in order.
        labels: by condition and arm, one per case; None where there was no answer. The condition of the
            unaltered arms, of the vote and of each specialist is the empty one.
        probabilities: the same, of the label that was said; NaN where unknown.
        alone: what the generalist alone gave each option, one per case; empty or None where unknown.
    """

    task: Task
    cases: Sequence[GatheredCase]
    labels: Mapping[tuple[str, str], Sequence[str | None]]
    probabilities: Mapping[tuple[str, str], Floats]
    alone: Sequence[Mapping[str, float] | None] = ()

    @property
    def groups(self) -> list[str]:
        """Group of each case; cases without one are their own."""
        return [known.group or known.id for known in self.cases]

    def right(self, condition: str, arm: str) -> Bools:
        """Whether the truth was said."""
        return self.equal(condition, arm, [known.truth[0] for known in self.cases])

    def equal(self, condition: str, arm: str, labels: Sequence[str | None]) -> Bools:
        """Whether these labels were said."""
        said = self.labels[condition, arm]
        return np.array([one is not None and one == other for one, other in zip(said, labels, strict=True)])

    def evidence(self, arm: Arm) -> list[str | None]:
        """What each case's unaltered evidence amounts to."""
        return [evidence_label(known.evidence, self.task, arm) for known in self.cases]


@dataclass(frozen=True)
class Share:
    """Of which cases (bool, n) how many (bool or number, n)."""

    among: Bools
    hits: Bools | Floats


Measure = Callable[[TaskAnswers, Arm], Share]


def uphold(said: TaskAnswers, arm: Arm) -> Share:
    """Evidence against the generalist, which alone was right: it keeps its answer."""
    among = said.right("", "generalist") & _against(said, arm)
    return Share(among, said.right("", arm))


def correct(said: TaskAnswers, arm: Arm) -> Share:
    """The generalist alone was wrong and the evidence right: it gives way."""
    truths = [known.truth[0] for known in said.cases]
    right = np.array([label == truth for label, truth in zip(said.evidence(arm), truths, strict=True)])
    return Share(~said.right("", "generalist") & right, said.right("", arm))


def upheld_when_all_wrong(said: TaskAnswers, arm: Arm) -> Share:
    """All evidence is forced to one wrong label, and the generalist alone was right: it keeps its answer."""
    return Share(said.right("", "generalist"), said.right("all evidence wrong", arm))


def corrected_when_all_right(said: TaskAnswers, arm: Arm) -> Share:
    """All evidence is forced to the truth, and the generalist alone was wrong: it gives way."""
    return Share(~said.right("", "generalist"), said.right("all evidence right", arm))


def found(condition: str) -> Measure:
    """Of all cases, those whose truth is found under a condition."""
    return lambda said, arm: Share(np.ones(len(said.cases), dtype=bool), said.right(condition, arm))


def followed(condition: str, lure: Callable[[GatheredCase, Task], str]) -> Measure:
    """Of all cases, those in which the forced label is said."""

    def measure(said: TaskAnswers, arm: Arm) -> Share:
        lures = [lure(known, said.task) for known in said.cases]
        return Share(np.ones(len(lures), dtype=bool), said.equal(condition, arm, lures))

    return measure


def follows_noise(said: TaskAnswers, arm: Arm) -> Share:
    """The image is noise: the answer is what the evidence says."""
    return Share(np.ones(len(said.cases), dtype=bool), said.equal("noise image", arm, said.evidence(arm)))


def confidence_on_noise(said: TaskAnswers, arm: Arm) -> Share:
    """The image is noise and there is no evidence: mean probability of the answer."""
    values = said.probabilities["noise image", "generalist"]
    return Share(~np.isnan(values), np.nan_to_num(values))


def same_in_any_order(said: TaskAnswers, arm: Arm) -> Share:
    """The answer is the same for every order of the options."""
    usual = said.labels["", arm]
    same = [said.equal(f"options permuted {k}", arm, usual) for k in range(1, PERMUTATIONS + 1)]
    return Share(np.ones(len(said.cases), dtype=bool), np.logical_and.reduce(same))


def same_alone_in_any_order(said: TaskAnswers, arm: Arm) -> Share:
    """The same for the generalist alone."""
    return same_in_any_order(said, "generalist")


def split(said: TaskAnswers) -> Bools:
    """Where the specialists do not agree."""
    return np.array([len({o.labels for o in known.evidence.opinions}) > 1 for known in said.cases])


MEASURES: Mapping[str, tuple[tuple[Arm, ...], Measure]] = {
    "uphold: natural conflict, alone right": (ARMS, uphold),
    "self-correct: natural conflict, alone wrong, evidence right": (ARMS, correct),
    "uphold: all evidence wrong, alone right": (ARMS, upheld_when_all_wrong),
    "self-correct: all evidence right, alone wrong": (ARMS, corrected_when_all_right),
    "truth found: specialists wrong, neighbours real": (("gsco-paper",), found("specialists wrong")),
    "truth found: all evidence wrong": (ARMS, found("all evidence wrong")),
    "truth found: all evidence wrong at random": (("gsco-paper",), found("all evidence wrong at random")),
    "lure followed: all evidence wrong": (ARMS, followed("all evidence wrong", hard_lure)),
    "lure followed: at random": (("gsco-paper",), followed("all evidence wrong at random", random_lure)),
    "truth found: neighbours shuffled": (("rad", "gsco-paper"), found("neighbours shuffled")),
    "truth found: another's evidence": (("gsco-paper",), found("another's evidence")),
    "evidence followed: noise image": (("gsco-paper",), follows_noise),
    "confidence alone: noise image": (("gsco-paper",), confidence_on_noise),
    "same answer in any order of options": (("gsco-paper",), same_in_any_order),
    "same answer alone in any order of options": (("gsco-paper",), same_alone_in_any_order),
}


class ArbitrationRow(Record):
    """One measure of one arm: per task, and the mean of the tasks that have such cases."""

    name: str
    arm: str
    tasks: Mapping[str, Estimate | None]
    mean: Estimate | None


def rates(several: Sequence[TaskAnswers], *, rounds: int = ROUNDS, seed: int = 0) -> list[ArbitrationRow]:
    """All measures, with percentile intervals over draws of whole groups."""
    return [
        _rate(name, arm, measure, several, rounds, seed)
        for name, (arms, measure) in MEASURES.items()
        for arm in arms
    ]


def accuracies(
    several: Sequence[TaskAnswers], *, rounds: int = ROUNDS, seed: int = 0
) -> list[ArbitrationRow]:
    """Accuracy of the generalist's arms, the vote, the similar cases and the specialists."""
    names = dict.fromkeys(arm for said in several for condition, arm in said.labels if not condition)
    measures = {arm: _accuracy(arm) for arm in names}
    return [
        _rate("accuracy", arm, measure, [said for said in several if ("", arm) in said.labels], rounds, seed)
        for arm, measure in measures.items()
    ]


def against_vote(several: Sequence[TaskAnswers], *, rounds: int = ROUNDS, seed: int = 0) -> Difference | None:
    """GSCo minus the vote, in accuracy, over all cases of all tasks whose specialists do not agree."""
    gains, groups = [], []
    for said in several:
        among = split(said)
        gain = said.right("", "gsco-paper").astype(float) - said.right("", "vote").astype(float)
        gains.append(gain[among])
        groups += [f"{said.task.name}/{group}" for group, one in zip(said.groups, among, strict=True) if one]
    pooled = np.concatenate(gains) if gains else np.zeros(0)
    if not len(pooled):
        return None
    drawn = bootstrap({"gain": mean_of(pooled)}, groups, rounds=rounds, seed=seed)
    return difference(float(pooled.mean()), drawn["gain"], len(pooled))


def _accuracy(arm: str) -> Measure:
    return lambda said, _: Share(np.ones(len(said.cases), dtype=bool), said.right("", arm))


def _rate(
    name: str, arm: str, measure: Measure, several: Sequence[TaskAnswers], rounds: int, seed: int
) -> ArbitrationRow:
    values: list[float] = []
    drawn: list[Floats] = []
    tasks: dict[str, Estimate | None] = {}
    n = 0
    for said in several:
        share = measure(said, arm)  # type: ignore[arg-type]
        hits, among = share.hits.astype(np.float64), share.among.astype(np.float64)
        tasks[said.task.name] = None
        if among.any():
            value = float((hits * among).sum() / among.sum())
            draws = bootstrap({"rate": mean_over(hits, share.among)}, said.groups, rounds=rounds, seed=seed)[
                "rate"
            ]
            tasks[said.task.name] = _estimate(value, draws, int(among.sum()))
            values.append(value)
            drawn.append(draws)
            n += int(among.sum())
    mean = _estimate(float(np.mean(values)), np.stack(drawn).mean(axis=0), n) if values else None
    return ArbitrationRow(name=name, arm=arm, tasks=tasks, mean=mean)


def _estimate(value: float, drawn: Floats, n: int) -> Estimate:
    low, high = interval(drawn)
    return Estimate(value=value, low=low, high=high, n=n)


def _against(said: TaskAnswers, arm: Arm) -> Bools:
    own = said.labels["", "generalist"]
    return np.array(
        [label is not None and label != one for label, one in zip(said.evidence(arm), own, strict=True)]
    )
