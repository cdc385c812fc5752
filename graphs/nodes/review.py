"""The review: how sure the decision is, who disagrees, and whether a person must decide."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from langgraph.runtime import Runtime

from ... import __version__
from ...case import Answer, Case, Conflict, Diagnosis, Evidence, Opinion, Task, TaskKind
from ..collaboration import Collaboration
from ..state import DiagnosisState
from .decide import evidence_of, without_farthest

UNANIMOUS = 2
"""So many specialists of one mind outweigh a generalist that contradicts them: a person decides."""


async def review(state: DiagnosisState, runtime: Runtime[Collaboration]) -> dict[str, Any]:
    """Turn the answer into the diagnosis."""
    start = time.perf_counter()
    collaboration = runtime.context
    task = collaboration.task(state["gate"].task)
    evidence = without_farthest(evidence_of(state, task, collaboration), state["answer"].left_out)
    diagnosis = conclude(
        state["case"],
        task,
        evidence,
        state["answer"],
        generalist=collaboration.generalist,
        profile=f"{collaboration.profile.name}@{collaboration.profile.hash}",
        versions=versions(task, evidence, collaboration),
    )
    timings = {**state.get("timings", {}), "review": time.perf_counter() - start}
    return {"diagnosis": diagnosis.model_copy(update={"timings": timings})}


def conclude(
    case: Case,
    task: Task,
    evidence: Evidence,
    answer: Answer,
    *,
    generalist: str = "",
    profile: str = "",
    versions: Mapping[str, str] | None = None,
) -> Diagnosis:
    """Judge an answer by its evidence. A pure function.

    Args:
        case: what was asked.
        task: how it was asked.
        evidence: what stood in the generalist's context.
        answer: what the generalist said.
        generalist: its name and version.
        profile: name and hash of the prompt profile.
        versions: of everything that took part.
    """
    closed = task.kind.closed
    confidence = confidence_of(task, answer) if closed else None
    conflict = conflict_of(task, answer.labels, evidence) if closed else Conflict()
    doubts = tuple(doubts_of(task, evidence, confidence, conflict))
    return Diagnosis(
        case_id=case.id,
        task=task.name,
        kind=task.kind,
        label=", ".join(answer.labels) if closed else None,
        labels=answer.labels,
        probabilities=answer.probabilities,
        confidence=confidence,
        abstained=bool(doubts),
        reasons=(*doubts, *remarks(task, evidence, confidence)),
        conflict=conflict,
        evidence=evidence,
        text=None if closed else answer.text,
        generalist=generalist,
        profile=profile,
        parse=answer.parse,
        versions=versions or {},
    )


def confidence_of(task: Task, answer: Answer) -> float | None:
    """Probability that the labels are right, by the generalist; for multi-label of the least certain one."""
    probabilities = answer.probabilities
    if probabilities is None:
        return None
    if task.kind is TaskKind.DIAGNOSIS:
        return probabilities[answer.labels[0]]
    return min(
        probabilities[option] if option in answer.labels else 1.0 - probabilities[option]
        for option in task.options
    )


def conflict_of(task: Task, labels: tuple[str, ...], evidence: Evidence) -> Conflict:
    """Measure how far specialists and similar cases carry the labels.

    A draft report without labels is no vote. For multi-label tasks a voice agrees if it names the same
    set, and the panel's word is what more than half of it says, option by option.
    """
    votes = [opinion for opinion in evidence.opinions if opinion.labels or opinion.probabilities]
    said = frozenset(labels)
    agreeing = sum(frozenset(vote.labels) == said for vote in votes)
    carrying = sum(frozenset(case.labels) == said for case in evidence.similar_cases)
    return Conflict(
        generalist_against_panel=bool(votes) and _against(task, said, votes),
        specialists_disagree=len({frozenset(vote.labels) for vote in votes}) > 1,
        panel_share=agreeing / len(votes) if votes else None,
        similar_share=carrying / len(evidence.similar_cases) if evidence.similar_cases else None,
    )


def _against(task: Task, said: frozenset[str], votes: list[Opinion]) -> bool:
    """Whether the panel's majority says something else; in a tie each side is the majority."""
    counts = Counter(label for vote in votes for label in vote.labels)
    if task.kind is TaskKind.DIAGNOSIS:
        return any(counts[label] < max(counts.values()) for label in said)
    half = len(votes) / 2
    return any(counts[option] < half if option in said else counts[option] > half for option in task.options)


def doubts_of(task: Task, evidence: Evidence, confidence: float | None, conflict: Conflict) -> Iterator[str]:
    """Say, each in a sentence, why a person must decide; nothing where the diagnosis stands."""
    if evidence.gate.familiar is False:
        yield "The image is unlike the known cases of this task: a person must decide."
    if confidence is not None and confidence < task.abstain_below:
        yield f"The confidence {confidence:.2f} is below this task's limit of {task.abstain_below:.2f}."
    voters = sum(bool(opinion.labels or opinion.probabilities) for opinion in evidence.opinions)
    if voters >= UNANIMOUS and conflict.generalist_against_panel and not conflict.specialists_disagree:
        yield f"The generalist contradicts all {voters} specialists, who agree with each other."


def remarks(task: Task, evidence: Evidence, confidence: float | None) -> Iterator[str]:
    """Say what a reader must know besides."""
    yield from evidence.gate.notes
    if task.kind.closed and confidence is None:
        yield "The generalist gives no probabilities: the confidence is unknown."
    for missing in evidence.missing:
        if missing.source != "gate":
            yield f"Decided without {missing.source.replace(':', ' ')}: {missing.reason}"


def versions(task: Task, evidence: Evidence, collaboration: Collaboration) -> dict[str, str]:
    """Name everything that took part, so that the same can be had again."""
    named = {f"specialist:{opinion.specialist}": opinion.version for opinion in evidence.opinions}
    store = collaboration.retrieval.size
    return {
        "gsco": __version__,
        "task": task.version,
        "generalist": collaboration.generalist,
        **({} if store is None else {"store": f"{store} cases"}),
        **named,
    }
