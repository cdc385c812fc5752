"""Fitting a task's decision rule on labelled cases, and measuring what it is worth on others.

The cases go through the product's graph like those of a run: evidence, and the generalist's answer with all
of it. Half of the groups fit the rule; the others, which fit nothing, say what its confidence means and what
may be promised. The rule is applied to them by the very code that makes a diagnosis.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from .. import __version__
from .._support.jsonl import write_atomically
from ..case import Answer, Case, Evidence, ImageRef, Task, TaskKind
from ..errors import ConfigurationError
from ..graphs.collaboration_fit import (
    COLLABORATION_FILE,
    CollaborationFit,
    FittedParts,
    HeldOutScores,
    observed_meaning,
)
from ..graphs.drift import DriftScores, drift_scores
from ..graphs.fitting import sample_of
from ..graphs.fusion import (
    GENERALIST,
    SIMILAR,
    asks_generalist,
    disputed,
    distribution_of,
    sources_of,
)
from ..graphs.nodes.decide import conclude
from ..graphs.policy import other_doubts
from ..graphs.selection import Selection, select_rule
from .arms import EVIDENCE_ONLY, PAPER
from .outcomes import current, gathered
from .provenance import generalist_parts
from .records import RunCard
from .runner import known_cases

if TYPE_CHECKING:
    from ..agent.api import GSCo
    from ..case import Diagnosis
    from ..graphs.diagnosis_context import DiagnosisContext
    from .plan import Plan
    from .runner import RunContext
    from .suites import Member

CERTIFIED_APART = 200
"""With so many groups at least, half of them are kept for the certificate."""
MOST_ERRORS = 0.05
"""Where more of the cases have no answer, nothing is fitted."""


@dataclass(frozen=True)
class LabelledCase:
    """A case whose truth is known, with all that was said about it."""

    id: str
    group: str
    sha256: str
    truth: tuple[str, ...]
    evidence: Evidence
    answer: Answer | None
    """The generalist's, with all evidence before it; None where it was not asked."""


def arms_to_run(asking: bool) -> tuple[str, ...]:
    """Arms that a fit reads."""
    return (EVIDENCE_ONLY.name, PAPER.name) if asking else (EVIDENCE_ONLY.name,)


def fit_task(
    bench: RunContext,
    member: Member,
    work: Path,
    plan: Plan,
    *,
    certify_split: str = "",
    root: Path | None = None,
    quiet: bool = False,
) -> CollaborationFit:
    """Replay labelled cases and fit the task's rule; the same call goes on with one that was stopped.

    Args:
        bench: who takes part.
        member: data set, split and task.
        work: folder of the replayed cases.
        plan: how cases are diagnosed; its arms say whether the generalist is asked.
        certify_split: a split of its own for the certificate; empty keeps half of the groups for it.
        root: folder of the data sets of the registry.
        quiet: show no progress.

    Raises:
        ConfigurationError: the cases cannot be used, because the case store or a specialist knows them, too
            many have no answer, or there are too few.
    """
    run, cases = _replayed(bench, member, work / member.split, plan, root, quiet)
    if certify_split:
        other = member.model_copy(update={"split": certify_split, "limit": None})
        whole = plan.model_copy(update={"limit": None})
        held_run, kept = _replayed(bench, other, work / certify_split, whole, root, quiet)
        fitting = cases
    else:
        held_run = run
        fitting, kept = halves(cases, plan.seed)
    return fit_cases(
        bench,
        run.task,
        run.dataset_sha256,
        fitting,
        kept,
        plan,
        independent=_independent(bench.gsco, held_run),
        unseen=_independent(bench.gsco, run),
        reference=cases,
    )


def fit_cases(
    bench: RunContext,
    task: Task,
    data: str,
    fitting: Sequence[LabelledCase],
    kept: Sequence[LabelledCase],
    plan: Plan,
    *,
    independent: bool,
    unseen: bool,
    reference: Sequence[LabelledCase] | None = None,
    max_error: float | None = None,
) -> CollaborationFit:
    """Fit a task's rule on labelled cases, and measure it on others.

    Args:
        bench: who took part.
        task: a closed task.
        data: hash of the data set.
        fitting: what the rule is fitted on.
        kept: what says what its confidence means, and what can be promised; may be empty.
        plan: how the cases were diagnosed.
        independent: whether the kept cases chose nothing of the specialists either.
        unseen: whether no specialist was stopped or calibrated on the cases of the fit.
        reference: what incoming cases are compared with; None: all of these.
        max_error: the limit that holds where no setting names another.

    Raises:
        ConfigurationError: there are too few cases, or nothing to weigh.
    """
    known = known_cases(bench.gsco, task, plan)
    selection = _selected(task, fitting, None if known is None else known.reliability, unseen=unseen)
    digest = "" if known is None else known.digest
    fit = _fit_of(bench, task, data, fitting, selection, plan, digest)
    collaboration = _collaboration(bench.gsco, task, fit, plan)
    held_out = held_out_scores(kept, task, collaboration, independent=independent, seed=plan.seed)
    return fit.model_copy(
        update={
            "held_out": held_out,
            # Out of fold a case did not fit what was said of it either.
            "observed": observed_meaning(
                [*held_out.confidence, *selection.confidence.tolist()],
                [*held_out.right, *selection.right.tolist()],
            ),
            "reference": _reference([*fitting, *kept] if reference is None else reference),
            "max_error": max_error,
        }
    )


def write_fit(fit: CollaborationFit, folder: Path) -> Path:
    """Write a fit into a folder of specialists, beside those of its task."""
    path = folder / fit.task / COLLABORATION_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, fit.model_dump_json(indent=1) + "\n")
    return path


class Grouped(Protocol):
    """Something of a patient or group."""

    @property
    def group(self) -> str:
        """Whose it is."""
        ...


G = TypeVar("G", bound=Grouped)


def halves(cases: Sequence[G], seed: int = 0) -> tuple[list[G], list[G]]:
    """Draw half of the groups for the fit and half for the certificate; few groups all go to the fit."""
    groups = sorted({case.group for case in cases})
    if len(groups) < CERTIFIED_APART:
        return list(cases), []
    random.Random(seed).shuffle(groups)
    fitting = frozenset(groups[: len(groups) // 2])
    return (
        [case for case in cases if case.group in fitting],
        [case for case in cases if case.group not in fitting],
    )


def held_out_scores(
    cases: Sequence[LabelledCase],
    task: Task,
    collaboration: DiagnosisContext,
    *,
    independent: bool,
    seed: int = 0,
) -> HeldOutScores:
    """Decide held-out cases as a diagnosis does, one of each group, in a drawn order.

    Args:
        cases: that fitted nothing of the rule.
        task: a closed task.
        collaboration: with the fit.
        independent: whether the cases chose nothing of the specialists either.
        seed: of the order.
    """
    draw = random.Random(seed)
    order = sorted(cases, key=lambda case: case.id)
    draw.shuffle(order)
    kept = list({case.group: case for case in order}.values())
    decided = [(case, _decided(case, task, collaboration)) for case in kept]
    sure = [(case, made) for case, made in decided if made.confidence is not None]
    return HeldOutScores(
        confidence=tuple(round(made.confidence or 0.0, 4) for _, made in sure),
        right=tuple(set(made.labels) == set(case.truth) for case, made in sure),
        eligible=tuple(not any(other_doubts(task, case.evidence, made.labels)) for case, made in sure),
        truth=tuple(case.truth for case, _ in sure),
        said=tuple(made.labels for _, made in sure),
        nearest=tuple(_nearest(case.evidence) for case, _ in sure),
        independent=independent,
    )


def read_cases(folder: Path) -> tuple[RunCard, list[LabelledCase]]:
    """Read the cases of a run, in the order of their names; those without an answer are left out.

    Raises:
        ConfigurationError: it is no run, or too many of its cases have no answer.
    """
    found = current(folder)
    outcomes = {arm: {one.case: one for one in several} for arm, several in found.outcomes.items()}
    evidence = gathered(folder, found.run)
    failed = {one.case for several in found.outcomes.values() for one in several if one.error is not None}
    every = outcomes[EVIDENCE_ONLY.name]
    if len(failed) > MOST_ERRORS * len(every):
        error = next(one.error for several in found.outcomes.values() for one in several if one.error)
        raise ConfigurationError(
            f"{len(failed)} of {len(every)} cases have no answer, for example {error}: fix that and run "
            "the same command again; it asks only for what is missing"
        )
    answers = outcomes.get(PAPER.name, {})
    cases = [
        LabelledCase(
            id=name,
            group=one.group or name,
            sha256=evidence[name].sha256,
            truth=one.truth,
            evidence=evidence[name].evidence,
            answer=answers[name].answer if name in answers else None,
        )
        for name, one in sorted(every.items())
        if name not in failed and name in evidence
    ]
    return found.run, cases


def _replayed(
    bench: RunContext, member: Member, folder: Path, plan: Plan, root: Path | None, quiet: bool
) -> tuple[RunCard, list[LabelledCase]]:
    from .suites.suite_runner import run_member

    run_member(member, folder, bench, plan, root=root, quiet=quiet)
    return read_cases(folder)


def _reference(cases: Sequence[LabelledCase]) -> tuple[DriftScores, ...]:
    """What incoming cases are compared with, of one case of each group."""
    found = [drift_scores(case.evidence) for case in {case.group: case for case in cases}.values()]
    return tuple(one for one in found if one is not None)


def _selected(
    task: Task, cases: Sequence[LabelledCase], of_similar_cases: float | None, *, unseen: bool
) -> Selection:
    said: list[Mapping[str, Mapping[str, float]]] = []
    for case in cases:
        sources = sources_of(task, case.evidence)
        own = None if case.answer is None else distribution_of(task, case.answer)
        said.append(sources if own is None else {**sources, GENERALIST: own})
    if not any(name != GENERALIST for sources in said for name in sources):
        raise ConfigurationError(
            f"task {task.name} has neither specialists nor known cases, so that there is nothing to weigh: "
            "train a specialist (gsco train) or build a case store (gsco store) first"
        )
    sample = sample_of(
        task.options,
        said,
        [case.truth for case in cases],
        [case.group for case in cases],
        exclusive=task.kind is TaskKind.DIAGNOSIS,
    )
    names = sample.sources.keys()
    whole = [case for case, sources in zip(cases, said, strict=True) if sources.keys() == names]
    calls = len(task.options) if task.kind is TaskKind.MULTILABEL else 1
    opinions = [opinion for case in whole for opinion in case.evidence.opinions]
    reliabilities = {opinion.specialist: opinion.reliability for opinion in opinions}
    return select_rule(
        sample,
        np.array([disputed(task, case.evidence) for case in whole]),
        calls,
        {**reliabilities, SIMILAR: of_similar_cases},
        unseen=unseen,
    )


def _fit_of(
    bench: RunContext,
    task: Task,
    data: str,
    cases: Sequence[LabelledCase],
    chosen: Selection,
    plan: Plan,
    digest: str,
) -> CollaborationFit:
    generalist = bench.generalist
    opinions = [opinion for case in cases for opinion in case.evidence.opinions if opinion.probabilities]
    encoders = [known.encoder for case in cases for known in case.evidence.similar_cases[:1]]
    return CollaborationFit(
        task=task.name,
        task_version=task.version,
        kind=task.kind,
        options=task.options,
        rule=chosen.rule,
        chosen=chosen.chosen,
        quiet=chosen.quiet,
        full=chosen.full,
        limits=chosen.limits,
        stack=chosen.stack,
        candidates=chosen.candidates,
        parts=FittedParts(
            specialists={opinion.specialist: opinion.version for opinion in opinions},
            store=digest if encoders else "",
            encoder=encoders[0] if encoders else "",
            neighbours=plan.neighbours,
            generalist="" if generalist is None else f"{generalist.name} {generalist.version}".strip(),
            profile=str(generalist_parts(generalist, plan.profile)["profile"].get("profile", "")),
        ),
        cases=len(cases),
        groups=len({case.group for case in cases}),
        data=data,
        gsco=__version__,
    )


def _collaboration(gsco: GSCo, task: Task, fit: CollaborationFit, plan: Plan) -> DiagnosisContext:
    found = gsco.collaboration(**{**plan.policies, "decision": "auto", "max_error": None})
    return replace(found, given=task, fits=lambda name: fit if name == task.name else None, monitor=None)


def _decided(case: LabelledCase, task: Task, collaboration: DiagnosisContext) -> Diagnosis:
    plan = collaboration.plan(task, case.evidence)
    answer = case.answer if asks_generalist(plan, task, case.evidence) else None
    asked = Case(id=case.id, images=(ImageRef(sha256=case.sha256, width=1, height=1),))
    return conclude(asked, task, case.evidence, answer, collaboration)


def _nearest(evidence: Evidence) -> float:
    if evidence.gate.nearest_similarity is not None:
        return round(evidence.gate.nearest_similarity, 4)
    return round(max((case.similarity for case in evidence.similar_cases), default=0.0), 4)


def _independent(gsco: GSCo, run: RunCard) -> bool:
    """Whether no specialist was trained, stopped or calibrated on the split."""
    if run.split == "test":
        return True
    panel = gsco.panels.get(run.task.name)
    data = [member.card.data for member in panel.members.values()] if panel is not None else []
    return all(
        one is not None and run.dataset_sha256 != one.sha256 and run.dataset != one.name for one in data
    )
