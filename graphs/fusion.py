"""Fusion: what specialists, similar cases and the generalist say becomes one decision.

Each source is a distribution over the task's options. A log-linear opinion pool weighs them: in log-odds
the shares of the sources add up, so that the record can say what each of them contributed. The weights are
those that were fitted for the task (``collaboration_fit``), or else they follow from how reliable the
sources are known to be; a source of unknown reliability does not outvote measured ones.

Everything here is a pure function of the evidence and of the generalist's answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from ..case import (
    Answer,
    DecisionRule,
    Evidence,
    Fusion,
    Record,
    SimilarCase,
    Task,
    TaskKind,
    Voice,
    VoiceKind,
)
from ..models.generalist.hints import PRESENCE
from ..models.generalist.options import is_opinion, no_opinion
from .label_sets import LabelSets
from .pool import FLOOR, PRESENT, Distribution, Pool, Sources, evidence_of

if TYPE_CHECKING:
    from .collaboration_fit import CollaborationFit

RuleWanted = Literal["auto", "fused", "adaptive", "generalist"]

SIMILAR = "similar cases"
GENERALIST = "generalist"
SHARPNESS = 2.0
"""Without a fit a source weighs by this power of how far above chance it is known to be."""
UNMEASURED = "This collaboration has not been measured on this task; run `gsco fit`."
_HALF_A_CASE = 0.5


class AskLimits(Record):
    """When the adaptive rule asks the generalist."""

    limit: float
    """It asks where specialists and similar cases together are less sure than this."""
    disputed_limit: float
    """The same where they contradict each other."""
    calls: float
    """Share of the cases of the fit that this is."""


@dataclass(frozen=True)
class DecisionPlan:
    """How a case of a task is to be decided, before the generalist is asked."""

    rule: DecisionRule
    fitted: bool
    quiet: Pool | None
    """Of specialists and similar cases; None where none of them is there."""
    full: Pool | None
    """With the generalist."""
    limits: AskLimits | None = None
    asks: bool = True
    """Whether the generalist may be asked at all."""
    counts: bool = True
    """Whether its word counts."""
    notes: tuple[str, ...] = ()
    source_notes: Mapping[str, str] = field(default_factory=dict)
    """By source, why it does not count."""


class FusedDecision(NamedTuple):
    """What a plan makes of a case."""

    labels: tuple[str, ...]
    probabilities: Mapping[str, float] | None
    confidence: float | None
    fusion: Fusion


def sources_of(task: Task, evidence: Evidence) -> dict[str, Distribution]:
    """What specialists and similar cases say, each as a distribution over the options."""
    sources: dict[str, Distribution] = {
        opinion.specialist: opinion.probabilities for opinion in evidence.opinions if opinion.probabilities
    }
    if evidence.similar_cases:
        sources[SIMILAR] = similar_shares(task, evidence.similar_cases)
    return sources


def similar_shares(
    task: Task, cases: Sequence[SimilarCase], smoothing: float = _HALF_A_CASE
) -> dict[str, float]:
    """Let similar cases vote, each with the weight of its (non-negative) cosine similarity.

    Args:
        task: whose options.
        cases: at least one.
        smoothing: cases that are added to each option, since few cases prove nothing; 0 gives plain shares.
    """
    weights = [max(case.similarity, 0.0) for case in cases]
    if not sum(weights):
        weights = [1.0] * len(cases)
    k, total = len(cases), sum(weights)
    states = 2 if task.kind is TaskKind.MULTILABEL else len(task.options)
    return {
        option: (
            k * sum(w for w, case in zip(weights, cases, strict=True) if option in case.labels) / total
            + smoothing
        )
        / (k + smoothing * states)
        for option in task.options
    }


def distribution_of(task: Task, answer: Answer) -> dict[str, float] | None:
    """A generalist's answer as a distribution; None where it is no opinion about the options.

    Where its endpoint gives no probabilities, its labels count as nearly certain.
    """
    if not is_opinion(answer):
        return None
    if answer.probabilities is not None:
        return dict(answer.probabilities)
    return {option: float(option in answer.labels) for option in task.options} if answer.labels else None


def plan_of(
    task: Task,
    evidence: Evidence,
    *,
    wanted: RuleWanted = "auto",
    fit: CollaborationFit | None = None,
    stale: Mapping[str, str] | None = None,
    reliabilities: Mapping[str, float | None] | None = None,
    unknown_to_generalist: str = "",
) -> DecisionPlan:
    """Choose how a case is decided.

    Args:
        task: of the case.
        evidence: of specialists and similar cases.
        wanted: the rule that the settings or the call ask for.
        fit: what was fitted for the task; None if nothing was.
        stale: sources whose part has changed since the fit, with what has changed.
        reliabilities: balanced accuracy of each source where it is known, for tasks without a fit.
        unknown_to_generalist: why the generalist cannot know the task; empty if it may.
    """
    if wanted == "generalist" or not task.kind.closed:
        return DecisionPlan("generalist", fitted=False, quiet=None, full=None)
    sources = sources_of(task, evidence)
    if fit is None:
        return _unfitted(task, evidence, sources, reliabilities or {}, unknown_to_generalist)
    changed = dict(stale or {})
    quiet = fit.quiet and fit.quiet.without(changed)
    full = fit.full and fit.full.without(changed)
    quiet = quiet if quiet is not None and quiet.speaks(sources) else None
    notes = [f"{why}: it goes without its weight; run `gsco fit` again." for why in changed.values()]
    generalist = full is not None and full.weights.get(GENERALIST, 0.0) > 0
    rule: DecisionRule = fit.rule if wanted == "auto" else wanted
    asks = wanted == "fused" or fit.limits is not None or (quiet is None and not changed.get(GENERALIST))
    if wanted == "auto" and fit.rule == "fused" and GENERALIST in fit.chosen:
        asks = True
    asks = asks and (generalist or quiet is None)
    if not asks and not changed.get(GENERALIST):
        taken_part = fit.full is not None
        why = "on the cases of the fit it added nothing" if taken_part else "it took no part in the fit"
        changed[GENERALIST] = f"not asked: {why}"
    return DecisionPlan(
        rule,
        fitted=True,
        quiet=quiet,
        full=full,
        limits=fit.limits if rule == "adaptive" else None,
        asks=asks,
        counts=generalist or quiet is None,
        notes=tuple(notes),
        source_notes=changed,
    )


def asks_generalist(plan: DecisionPlan, task: Task, evidence: Evidence) -> bool:
    """Whether the generalist is to be asked about this case."""
    if plan.rule == "generalist" or plan.quiet is None:
        return True
    if not plan.asks:
        return False
    if plan.limits is None:
        return True
    pooled = plan.quiet(sources_of(task, evidence))
    sure = plan.quiet.confidence(pooled, plan.quiet.labels(pooled))
    limits = plan.limits
    return sure < (limits.disputed_limit if disputed(task, evidence) else limits.limit)


def decide_by(plan: DecisionPlan, task: Task, evidence: Evidence, answer: Answer | None) -> FusedDecision:
    """Make the decision.

    Args:
        plan: of ``plan_of``.
        task: a closed task.
        evidence: of specialists and similar cases.
        answer: the generalist's, with the evidence before it; None where it was not asked or has failed.

    Raises:
        LookupError: no source gave an answer that counts.
    """
    sources = sources_of(task, evidence)
    own = None if answer is None else distribution_of(task, answer)
    if plan.rule == "generalist" or plan.quiet is None:
        return _by_generalist(plan, task, evidence, sources, answer)
    pool = plan.quiet
    if own is not None and plan.counts and plan.full is not None:
        pool, sources = plan.full, {**sources, GENERALIST: own}
    pooled = pool(sources)
    labels = pool.labels(pooled)
    return FusedDecision(
        labels,
        pooled,
        pool.confidence(pooled, labels),
        _record(plan, pool, task, evidence, sources, pooled, labels, answer),
    )


def reliability_weights(
    reliabilities: Mapping[str, float | None], options: int, exclusive: bool
) -> dict[str, float]:
    """Weights that follow from how far above chance each source is known to be; together they weigh one.

    With weights that sum to one the pool's log loss is at most the weighted mean of the sources' (Hölder's
    inequality), whatever the cases are: nothing measured is needed for that.

    Args:
        reliabilities: balanced accuracy by source; None where it is unknown, which weighs nothing as long as
            anything else is known.
        options: how many the task has.
        exclusive: whether exactly one of them is true.
    """
    chance = 1 / options if exclusive else 0.5
    weights = {
        name: 0.0 if value is None else max(0.0, (value - chance) / (1 - chance)) ** SHARPNESS
        for name, value in reliabilities.items()
    }
    if not sum(weights.values()):
        weights = dict.fromkeys(reliabilities, 1.0)
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def disputed(task: Task, evidence: Evidence) -> bool:
    """Whether the evidence contradicts itself: specialists disagree, or similar cases with their vote."""
    said = {frozenset(opinion.labels) for opinion in evidence.opinions if opinion.probabilities}
    if evidence.similar_cases:
        said.add(frozenset(labels_of(task, similar_shares(task, evidence.similar_cases, 0.0))))
    return len(said) > 1


def labels_of(task: Task, probabilities: Distribution) -> tuple[str, ...]:
    """What a distribution says: the likeliest option, or all that are present in a multi-label task."""
    if task.kind is TaskKind.MULTILABEL:
        return present_labels(task, probabilities)
    return (max(task.options, key=lambda option: probabilities.get(option, 0.0)),)


def present_labels(task: Task, present: Distribution) -> tuple[str, ...]:
    """Choose the options that are said; the negative one stands alone or not at all.

    Args:
        task: a multi-label task.
        present: probability of each option.
    """
    said = tuple(option for option in task.options if present[option] >= PRESENT)
    if task.negative is None:
        return said
    others = tuple(option for option in said if option != task.negative)
    if not others:
        return (task.negative,)
    if task.negative in said and present[task.negative] > max(present[option] for option in others):
        return (task.negative,)
    return others


def _unfitted(
    task: Task,
    evidence: Evidence,
    sources: Sources,
    reliabilities: Mapping[str, float | None],
    unknown: str,
) -> DecisionPlan:
    """Weigh the sources by what is known of them; the generalist is heard, and counts if nobody else does."""
    notes = [UNMEASURED]
    source_notes = {GENERALIST: unknown or "not measured on this task: it is heard and does not count"}
    if not sources:
        return DecisionPlan("generalist", fitted=False, quiet=None, full=None, notes=(UNMEASURED,))
    weights = reliability_weights(
        {name: reliabilities.get(name) for name in sources},
        len(task.options),
        task.kind is TaskKind.DIAGNOSIS,
    )
    for name in sources:
        if reliabilities.get(name) is None and weights[name] == 0:
            source_notes[name] = "its reliability is unknown: it does not outvote measured sources"
    pool = Pool(
        options=task.options,
        exclusive=task.kind is TaskKind.DIAGNOSIS,
        weights=weights,
        offsets=(0.0,) * len(task.options),
        sets=_occurring_sets(task, evidence) if task.kind is TaskKind.MULTILABEL else None,
    )
    return DecisionPlan(
        "fused",
        fitted=False,
        quiet=pool,
        full=None,
        asks=not unknown,
        counts=False,
        notes=tuple(notes),
        source_notes=source_notes,
    )


def _occurring_sets(task: Task, evidence: Evidence) -> LabelSets:
    """Sets of labels that are known to occur: those of the similar cases, and each label by itself."""
    known = {tuple(o for o in task.options if o in case.labels) for case in evidence.similar_cases}
    single = {(option,) for option in task.options}
    sets = sorted((known | single) - {()} if task.negative else known | single)
    return LabelSets(options=task.options, sets=tuple(sets))


def _by_generalist(
    plan: DecisionPlan, task: Task, evidence: Evidence, sources: Sources, answer: Answer | None
) -> FusedDecision:
    """The published protocol: the generalist's word is the decision, all evidence before it."""
    if answer is None:
        raise LookupError("no source gave an answer that counts")
    probabilities = answer.probabilities
    own = distribution_of(task, answer) or {}
    confidence = None if probabilities is None else _plain_confidence(task, answer.labels, probabilities)
    rival = _rival(task, own, answer.labels)
    voices = [_voice(task, evidence, name, p, 0.0, 0.0, "") for name, p in sources.items()]
    log_odds = _own_log_odds(task, own, answer.labels, rival)
    voices.append(
        Voice(
            source=GENERALIST,
            kind="generalist",
            labels=answer.labels,
            probabilities=own,
            weight=1.0,
            log_odds=log_odds,
        )
    )
    decided, against = _names(task, answer.labels, rival)
    fusion = Fusion(
        rule="generalist",
        fitted=False,
        decision=decided,
        rival=against,
        log_odds=log_odds,
        voices=tuple(voices),
        asked=True,
        counter_example=counter_example(task, decided, against, evidence.similar_cases),
        notes=plan.notes,
    )
    return FusedDecision(answer.labels, probabilities, confidence, fusion)


def _plain_confidence(task: Task, labels: Sequence[str], probabilities: Distribution) -> float:
    if task.kind is TaskKind.DIAGNOSIS:
        return probabilities[labels[0]]
    return float(np.prod([probabilities[o] if o in labels else 1 - probabilities[o] for o in task.options]))


def _record(
    plan: DecisionPlan,
    pool: Pool,
    task: Task,
    evidence: Evidence,
    sources: Sources,
    pooled: Distribution,
    labels: tuple[str, ...],
    answer: Answer | None,
) -> Fusion:
    rival = _rival(task, pooled, labels)
    about = labels[0] if task.kind is TaskKind.DIAGNOSIS else rival
    sign = 1.0 if task.kind is TaskKind.DIAGNOSIS or about in labels else -1.0
    shares, prior = pool.shares(sources, about, rival if task.kind is TaskKind.DIAGNOSIS else None)
    scale = pool.scale(sources)
    voices = [
        _voice(
            task,
            evidence,
            name,
            p,
            scale * pool.weights.get(name, 0.0),
            sign * shares.get(name, 0.0),
            plan.source_notes.get(name, ""),
        )
        for name, p in sources.items()
    ]
    if answer is not None and GENERALIST not in sources:
        note = plan.source_notes.get(GENERALIST, "")
        if distribution_of(task, answer) is None:
            note = no_opinion(answer) or "it named none of the options"
        voices.append(
            Voice(
                source=GENERALIST,
                kind="generalist",
                labels=answer.labels,
                probabilities=answer.probabilities or {},
                note=note,
            )
        )
    notes = list(plan.notes)
    if answer is None and (why := plan.source_notes.get(GENERALIST)) and plan.rule != "adaptive":
        notes.append(f"Generalist: {why}.")
    decided, against = _names(task, labels, rival)
    return Fusion(
        rule=plan.rule,
        fitted=plan.fitted,
        decision=decided,
        rival=against,
        log_odds=sign * (sum(shares.values()) + prior),
        prior=sign * prior,
        voices=tuple(voices),
        asked=answer is not None,
        counter_example=counter_example(task, decided, against, evidence.similar_cases),
        notes=tuple(notes),
    )


def _voice(
    task: Task, evidence: Evidence, name: str, p: Distribution, weight: float, log_odds: float, note: str
) -> Voice:
    kind: VoiceKind = "specialist"
    if name in (SIMILAR, GENERALIST):
        kind = "similar_cases" if name == SIMILAR else "generalist"
    opinion = next((one for one in evidence.opinions if one.specialist == name), None)
    labels = opinion.labels if opinion is not None and kind == "specialist" else labels_of(task, p)
    return Voice(
        source=name, kind=kind, labels=labels, probabilities=p, weight=weight, log_odds=log_odds, note=note
    )


def _rival(task: Task, pooled: Distribution, labels: tuple[str, ...]) -> str:
    """The strongest other option; of a multi-label task the option whose state is least certain."""
    if task.kind is TaskKind.MULTILABEL:
        return min(
            task.options,
            key=lambda o: pooled.get(o, 0.0) if o in labels else 1 - pooled.get(o, 0.0),
        )
    others = [option for option in task.options if option not in labels]
    return max(others, key=lambda option: pooled.get(option, 0.0))


def _own_log_odds(task: Task, own: Distribution, labels: tuple[str, ...], rival: str) -> float:
    if not own:
        return 0.0
    if task.kind is TaskKind.MULTILABEL:
        logit = float(evidence_of([own.get(rival, 0.0)], exclusive=False)[0])
        return logit if rival in labels else -logit
    pair = np.clip([own.get(labels[0], 0.0), own.get(rival, 0.0)], FLOOR, 1 - FLOOR)
    return float(np.log(pair[0]) - np.log(pair[1]))


def _names(task: Task, labels: tuple[str, ...], rival: str) -> tuple[str, str]:
    """Name the decision and what it was made against; of a multi-label task, one option and its opposite."""
    if task.kind is TaskKind.DIAGNOSIS:
        return labels[0], rival
    absent = f"{PRESENCE[1]} {rival}"
    return (rival, absent) if rival in labels else (absent, rival)


def counter_example(
    task: Task, decision: str, rival: str, known: Iterable[SimilarCase]
) -> SimilarCase | None:
    """Return the nearest of some known cases that speaks for the rival.

    Args:
        task: of the case.
        decision: its name in ``Fusion``.
        rival: the same.
        known: cases to choose from.
    """
    # What is no option is the absence of one, which is the decision then.
    found = (
        case
        for case in known
        if (rival in case.labels if rival in task.options else decision not in case.labels)
    )
    return max(found, key=lambda case: case.similarity, default=None)
