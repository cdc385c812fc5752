"""What is done with one case: its evidence is gathered once, and every arm decides by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from ..case import Case, Evidence, Missing, Task, TaskKind
from ..errors import AnswerUnparsed, GeneralistError, GscoError
from ..graphs.nodes.decide import ask
from ..graphs.nodes.review import conclude
from .arms import (
    ADAPTIVE,
    FUSED,
    GENERALISTS,
    Arm,
    Decision,
    DerivedArm,
    FittedArm,
    GeneralistArm,
    NoEvidence,
    decided,
    decision_of,
    disputed,
)
from .cases import Asked
from .evidence import slim, without_generalist
from .fitting import Fitted, answer_of, sources_of
from .pooling import Pool, Stack
from .records import CaseEvidence, Outcome, RunCard

if TYPE_CHECKING:
    from ..agent.api import GSCo, Policies
    from ..graphs.collaboration import Collaboration
    from .plan import Plan

_BY_NAME = {arm.name: arm for arm in GENERALISTS}


@dataclass(frozen=True)
class Work:
    """What is left to do for one case."""

    asked: Asked
    arms: frozenset[str]
    """Names of the arms that lack an outcome."""
    evidence: Evidence | None = None
    """What was gathered before."""
    answers: Mapping[str, Outcome] = field(default_factory=dict)
    """What the generalist was asked before, by arm."""


@dataclass(frozen=True)
class Done:
    """What came of it."""

    evidence: tuple[CaseEvidence, ...]
    outcomes: tuple[Outcome, ...]


class Worker(Protocol):
    """Does the work of cases, many at once."""

    async def do(self, work: Work) -> Done:
        """Do the work of one case; what goes wrong with it stands in its outcomes."""
        ...

    def close(self) -> None:
        """Release what it made for itself."""
        ...


class Desk:
    """Does the work of cases in this process; use it in one event loop.

    Args:
        gsco: specialists, store and generalist. It must outlive the desk.
        card: of the run.
        arms: those of the card.
        plan: how cases are diagnosed.
        fitted: what fitted arms know; needed where there are any.
    """

    def __init__(
        self, gsco: GSCo, card: RunCard, arms: Sequence[Arm], plan: Plan, fitted: Fitted | None = None
    ) -> None:
        self._gsco, self._card, self._task, self._plan = gsco, card, card.task, plan
        self._arms, self._fitted = list(arms), fitted
        self._silent: GSCo | None = None
        self._collaborations: dict[str, Collaboration] = {}

    async def do(self, work: Work) -> Done:
        """Do the work of one case; what goes wrong with it stands in its outcomes."""
        due = [arm for arm in self._arms if arm.name in work.arms]
        try:
            gathered = await self._gathered(work)
        except GscoError as error:
            return Done((), tuple(self._failed(arm, work.asked, error) for arm in due))
        evidence, fresh = gathered
        bench = _Bench(self, work, evidence)
        outcomes = await asyncio.gather(*(self._outcome(arm, bench) for arm in due))
        return Done(fresh, tuple(outcomes))

    def close(self) -> None:
        """Release what it made for itself."""
        if self._silent is not None:
            self._silent.close()

    async def _gathered(self, work: Work) -> tuple[Evidence, tuple[CaseEvidence, ...]]:
        case = work.asked.case
        if isinstance(case, GscoError):
            raise case
        if work.evidence is not None:
            return work.evidence, ()
        if self._silent is None:
            self._silent = without_generalist(self._gsco)
        policies: Policies = {**self._plan.policies, "moed": "prefer", "rad": "prefer"}
        diagnosis = await self._silent.adiagnose(case, task=self._task, **policies)
        found = CaseEvidence(
            case=work.asked.id,
            configuration=self._card.evidence,
            sha256=case.images[0].sha256,
            evidence=slim(diagnosis.evidence),
            seconds={name: spent for name, spent in diagnosis.timings.items() if name not in _NOT_EVIDENCE},
        )
        # Reports of similar cases are shown to the generalist, and never written down.
        return diagnosis.evidence, (found,)

    async def _outcome(self, arm: Arm, bench: _Bench) -> Outcome:
        try:
            if isinstance(arm, GeneralistArm):
                return await bench.said(arm)
            if isinstance(arm, DerivedArm):
                decision, parts = arm.decide(self._task, bench.evidence), {}
            else:
                decision, parts = await self._weighed(arm, bench)
        except (NoEvidence, GscoError) as error:
            return self._failed(arm, bench.work.asked, error)
        return self._outcome_of(arm, bench.work.asked, decision).model_copy(
            update={"disputed": disputed(self._task, bench.evidence), **parts}
        )

    async def _weighed(self, arm: FittedArm, bench: _Bench) -> tuple[Decision, dict[str, object]]:
        """Decide by what was learnt, and ask the generalist where that says so.

        Raises:
            NoEvidence: a source that counts is missing, or nothing was learnt for this arm.
        """
        fitted, sources = self._fitted, sources_of(self._task, bench.evidence)
        weigher = None if fitted is None else _weigher(arm, fitted)
        if fitted is None or weigher is None:
            raise NoEvidence(f"nothing was learnt for {arm.name} on validation cases")
        if arm == ADAPTIVE and not _unsure(fitted, sources, disputed(self._task, bench.evidence)):
            assert fitted.quiet is not None, "whoever has a limit has the pool that it is about"
            return self._pooled(fitted.quiet, sources), {}
        said = [await bench.said(_BY_NAME[name]) for name in arm.reads]
        if failed := next((one for one in said if one.error is not None), None):
            raise NoEvidence(f"the generalist gave no answer: {failed.error}")
        answers = {one.arm: answer_of(self._task, one) for one in said}
        decision = self._pooled(weigher, {**sources, **answers})
        parts = {
            "tries": max((one.tries for one in said), default=1),
            "seconds": {name: spent for one in said for name, spent in one.seconds.items()},
        }
        return replace(decision, calls=sum(one.calls for one in said)), parts

    def _pooled(self, weigher: Pool | Stack, sources: Mapping[str, Mapping[str, float]]) -> Decision:
        try:
            pooled = weigher(sources)
        except LookupError as error:
            raise NoEvidence(str(error)) from error
        return decided(self._task, weigher.labels(pooled), pooled)

    async def ask(self, arm: GeneralistArm, asked: Asked, evidence: Evidence) -> Outcome:
        """Put a case to the generalist, with the evidence that the arm shows it.

        What fails for want of a connection is tried again, after growing waits; an answer that cannot
        be read is not, since it would be the same again.
        """
        assert isinstance(asked.case, Case), "a case without images was sorted out before"
        case, seen = asked.case, restricted(evidence, arm)
        start, tries = time.perf_counter(), 0
        try:
            collaboration = self._collaboration(arm)
            while True:
                tries += 1
                try:
                    answer = await ask(case, self._task, seen, collaboration)
                    break
                except GeneralistError as error:
                    if isinstance(error, AnswerUnparsed) or tries > self._plan.retries:
                        raise
                    await asyncio.sleep(self._plan.retry_wait * 2 ** (tries - 1))
        except GscoError as error:
            return self._failed(arm, asked, error).model_copy(update={"tries": max(tries, 1)})
        diagnosis = conclude(case, self._task, seen, answer)
        return self._outcome_of(arm, asked, decision_of(diagnosis)).model_copy(
            update={
                "calls": calls_of(self._task),
                "tries": tries,
                "disputed": disputed(self._task, evidence) if self._task.kind.closed else None,
                "parse": diagnosis.parse,
                "missing": tuple(f"{missing.source}: {missing.reason}" for missing in seen.missing),
                "seconds": {"decide": time.perf_counter() - start},
            }
        )

    def _collaboration(self, arm: GeneralistArm) -> Collaboration:
        profile = arm.profile or self._plan.profile
        if profile not in self._collaborations:
            self._collaborations[profile] = self._gsco.collaboration(
                **{**self._plan.policies, "profile": profile}
            )
        return self._collaborations[profile]

    def _failed(self, arm: Arm, asked: Asked, error: Exception) -> Outcome:
        outcome = self._outcome_of(arm, asked, Decision(()))
        return outcome.model_copy(update={"error": f"{type(error).__name__}: {error}"})

    def _outcome_of(self, arm: Arm, asked: Asked, decision: Decision) -> Outcome:
        return Outcome(
            task=self._task.name,
            task_version=self._task.version,
            case=asked.id,
            arm=arm.name,
            configuration=self._card.arms[arm.name],
            group=asked.group,
            truth=truth_of(self._task, asked),
            stratum=asked.example.extras.get("answer_type", "") if asked.example else "",
            choices=asked.example.choices if asked.example else (),
            labels=decision.labels,
            probabilities=decision.probabilities,
            confidence=decision.confidence,
            abstained=decision.abstained,
            text=decision.text,
            calls=decision.calls,
        )


class _Bench:
    """One case while its arms are at it: each question is put to the generalist once, whoever needs it."""

    def __init__(self, desk: Desk, work: Work, evidence: Evidence) -> None:
        self.work, self.evidence = work, evidence
        self._desk = desk
        self._asked: dict[str, asyncio.Future[Outcome]] = {}

    async def said(self, arm: GeneralistArm) -> Outcome:
        if arm.name in self.work.answers and arm.name not in self.work.arms:
            return self.work.answers[arm.name]
        if arm.name not in self._asked:
            asking = self._desk.ask(arm, self.work.asked, self.evidence)
            self._asked[arm.name] = asyncio.ensure_future(asking)
        return await self._asked[arm.name]


_NOT_EVIDENCE = ("decide", "review", "load")


def restricted(evidence: Evidence, arm: GeneralistArm) -> Evidence:
    """Leave an arm the evidence that it shows the generalist, and what of that is missing."""

    def concerns(missing: Missing) -> bool:
        if missing.source.startswith("specialist"):
            return arm.moed
        return arm.rad or missing.source != "retrieval"

    return evidence.model_copy(
        update={
            "opinions": evidence.opinions if arm.moed else (),
            "similar_cases": evidence.similar_cases if arm.rad else (),
            "missing": tuple(filter(concerns, evidence.missing)),
        }
    )


def truth_of(task: Task, asked: Asked) -> tuple[str, ...]:
    """What is true of a case: its labels, every accepted answer, or its report."""
    example = asked.example
    if example is None or task.kind.closed:
        return asked.truth
    return (example.report,) if example.report is not None else example.answers


def calls_of(task: Task) -> int:
    """Questions that one decision of the generalist takes: one, or one per option of a multi-label task."""
    return len(task.options) if task.kind is TaskKind.MULTILABEL else 1


def _weigher(arm: FittedArm, fitted: Fitted) -> Pool | Stack | None:
    if arm in (FUSED, ADAPTIVE):
        return fitted.fused
    return fitted.stack


def _unsure(fitted: Fitted, sources: Mapping[str, Mapping[str, float]], contradictory: bool) -> bool:
    """Whether the generalist has to be asked; it is where the pool cannot tell."""
    limits = fitted.consultation
    if limits is None or fitted.quiet is None:
        return True
    try:
        sure = fitted.quiet.sureness(fitted.quiet(sources))
    except LookupError:
        return True
    return sure < (limits.disputed_limit if contradictory else limits.limit)
