"""The policy: when an image is refused, when gsco answers alone, and when a person must decide.

One place for it, whichever face asks: diagnosis, conversation and evaluation. An image of another modality is
refused at the gate (``nodes.gate``, by ``refuses``). An answer is left to a person where the image is unlike
all known ones, where the decision contradicts evidence of one mind, where it is not sure enough, and where
the promise that was asked for cannot be kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from ..case import Conflict, Diagnosis, Evidence, Task, TaskKind
from .certificate import Certificate
from .fusion import FusedDecision

GatePolicy = Literal["refuse", "warn", "off"]
ReviewReason = Literal["low_confidence", "conflict", "out_of_distribution", "always"]

UNANIMOUS_CASES = 5
"""So many similar cases of one mind are evidence that must not be contradicted in silence."""
CERTAIN = 0.9
"""A specialist that is this sure must not be contradicted in silence, if no other one speaks against it."""
TWO_OPTIONS = 0.625
"""Of two options the likelier one always has at least 0.5: below this a person decides."""


@dataclass(frozen=True)
class AnswerPolicy:
    """What must hold for an answer to be given alone.

    Attributes:
        certificate: of the error limit that is set; None where none is.
        suspended: why no answer is given alone at all, such as a drift alarm; empty where there is no reason.
    """

    certificate: Certificate | None = None
    suspended: str = ""


def refuses(policy: GatePolicy, resembles: str | None, familiar: bool | None, named: bool) -> bool:
    """Whether an image is refused before anybody is asked about it.

    Args:
        policy: of the gate.
        resembles: the task of another modality that it is nearer to, if there is one.
        familiar: whether it is like the known cases of its task; None where that is unknown.
        named: whether a person named the task. A model's choice of a task is no better than the image's
            likeness to it: what is like none of the known cases is refused, as where no task is named.
    """
    return policy == "refuse" and (resembles is not None or (familiar is False and not named))


def confidence_limit(task: Task, policy: AnswerPolicy) -> float:
    """The confidence below which a person decides."""
    if policy.certificate is not None:
        return 1.01 if policy.certificate.limit is None else policy.certificate.limit
    if task.kind is TaskKind.DIAGNOSIS and len(task.options) == 2:
        return max(task.abstain_below, TWO_OPTIONS)
    return task.abstain_below


def doubts_of(
    task: Task, evidence: Evidence, decision: FusedDecision, policy: AnswerPolicy = AnswerPolicy()
) -> Iterator[str]:
    """Say, each in a sentence, why a person must decide; nothing where the answer is given alone."""
    yield from other_doubts(task, evidence, decision.labels)
    if policy.suspended:
        yield policy.suspended
    limit, confidence = confidence_limit(task, policy), decision.confidence
    if confidence is None:
        if policy.certificate is not None:
            yield "The confidence is unknown, so that nothing can be promised of this answer."
        return
    if confidence >= limit:
        return
    if policy.certificate is None:
        yield f"The confidence of {confidence:.0%} is below the limit of {limit:.0%}, which is not certified."
    elif policy.certificate.limit is None:
        yield policy.certificate.words
    else:
        yield (
            f"The confidence of {confidence:.0%} is below {limit:.0%}, from which on at most "
            f"{policy.certificate.max_error:.0%} of the answers are wrong."
        )


def other_doubts(task: Task, evidence: Evidence, labels: tuple[str, ...]) -> Iterator[str]:
    """The doubts that do not hang on how sure the decision is."""
    if evidence.gate.familiar is False:
        yield "The image is unlike the known cases of this task: a person must decide."
    yield from contradictions(evidence, labels)


def contradictions(evidence: Evidence, labels: tuple[str, ...]) -> Iterator[str]:
    """Say which evidence of one mind the decision contradicts."""
    said = frozenset(labels)
    voices = [opinion for opinion in evidence.opinions if opinion.labels or opinion.probabilities]
    views = {frozenset(opinion.labels) for opinion in voices}
    against = len(views) == 1 and said not in views
    sure = [max(opinion.probabilities.values(), default=1.0) >= CERTAIN for opinion in voices]
    if against and (len(voices) > 1 or all(sure)):
        who = (
            f"all {len(voices)} specialists" if len(voices) > 1 else f"the specialist {voices[0].specialist}"
        )
        yield f"The decision contradicts {who} ({', '.join(sorted(next(iter(views))))})."
    known = {frozenset(case.labels) for case in evidence.similar_cases}
    if len(evidence.similar_cases) >= UNANIMOUS_CASES and len(known) == 1 and said not in known:
        names = ", ".join(sorted(next(iter(known))))
        yield f"The decision contradicts all {len(evidence.similar_cases)} similar cases ({names})."


def remarks(evidence: Evidence, closed: bool, confidence: float | None) -> Iterator[str]:
    """Say what a reader must know besides."""
    yield from evidence.gate.notes
    if closed and confidence is None:
        yield "The generalist gives no probabilities: the confidence is unknown."
    for missing in evidence.missing:
        if missing.source != "gate":
            yield f"Decided without {missing.source.replace(':', ' ')}: {missing.reason}"


def conflict_of(
    task: Task, labels: tuple[str, ...], generalist: tuple[str, ...] | None, evidence: Evidence
) -> Conflict:
    """Measure how far specialists and similar cases carry the labels.

    A draft report without labels is no vote. For multi-label tasks a voice agrees if it names the same
    set, and the panel's word is what more than half of it says, option by option.

    Args:
        task: a closed task.
        labels: of the decision.
        generalist: what the generalist itself said; None where it was not asked.
        evidence: of the case.
    """
    votes = [opinion for opinion in evidence.opinions if opinion.labels or opinion.probabilities]
    said = frozenset(labels)
    agreeing = sum(frozenset(vote.labels) == said for vote in votes)
    carrying = sum(frozenset(case.labels) == said for case in evidence.similar_cases)
    views = [vote.labels for vote in votes]
    return Conflict(
        generalist_against_panel=bool(votes)
        and generalist is not None
        and _against(task, frozenset(generalist), views),
        specialists_disagree=len({frozenset(view) for view in views}) > 1,
        panel_share=agreeing / len(votes) if votes else None,
        similar_share=carrying / len(evidence.similar_cases) if evidence.similar_cases else None,
    )


def _against(task: Task, said: frozenset[str], views: list[tuple[str, ...]]) -> bool:
    """Whether the panel's majority says something else; in a tie each side is the majority."""
    counts = Counter(label for view in views for label in view)
    if task.kind is TaskKind.DIAGNOSIS:
        return any(counts[label] < max(counts.values()) for label in said)
    half = len(views) / 2
    return any(counts[option] < half if option in said else counts[option] > half for option in task.options)


def review_reasons(diagnosis: Diagnosis, policy: Collection[str]) -> Iterator[str]:
    """Say why a conversation waits for a person, by its review policy; nothing where it goes on.

    Args:
        diagnosis: what was found.
        policy: of ``ReviewReason``.
    """
    if "always" in policy:
        yield "Every diagnosis is reviewed here."
    if "low_confidence" in policy and diagnosis.kind.closed:
        if diagnosis.confidence is None:
            yield "The generalist gives no probabilities: the confidence is unknown."
        elif diagnosis.abstained:
            yield from diagnosis.reasons[:1]
    if "conflict" in policy and diagnosis.conflict.generalist_against_panel:
        yield "The generalist contradicts the specialists."
    if "conflict" in policy:
        yield from contradictions(diagnosis.evidence, diagnosis.labels)
    if "out_of_distribution" in policy and diagnosis.evidence.gate.familiar is False:
        yield "The image is unlike the known cases of this task."
