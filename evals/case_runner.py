"""What is done with one case: its evidence is gathered once, and every arm decides by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from ..case import Answer, Case, Evidence, Missing, Task
from ..errors import AnswerUnparsed, GeneralistError, GscoError
from ..graphs.fusion import disputed
from ..graphs.nodes.ask import answer_where_wanted
from ..graphs.nodes.decide import conclude
from .abilities.ability_arms import AbilityArm, AbilityQuestion
from .arms import Arm, ArmDecision, DerivedArm, GeneralistArm, NoEvidence, decision_of
from .cases import EvalCase
from .records import CaseEvidence, Outcome, RunCard

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from ..agent.api import GSCo, Policies
    from ..graphs.diagnosis_context import DiagnosisContext
    from ..models.generalist.protocol import Choice
    from .plan import Plan

T = TypeVar("T")


@dataclass(frozen=True)
class CaseWork:
    """What is left to do for one case."""

    asked: EvalCase
    arms: frozenset[str]
    """Names of the arms that lack an outcome."""
    evidence: Evidence | None = None
    """What was gathered before."""
    task: Task | None = None
    """The altered task, where the condition alters it."""
    condition: str = ""
    """How the case was altered; see ``conditions``."""


@dataclass(frozen=True)
class CaseResult:
    """What came of it."""

    evidence: tuple[CaseEvidence, ...]
    outcomes: tuple[Outcome, ...]


class CaseWorker(Protocol):
    """Does the work of cases, many at once."""

    async def do(self, work: CaseWork) -> CaseResult:
        """Do the work of one case; what goes wrong with it stands in its outcomes."""
        ...

    def close(self) -> None:
        """Release what it made for itself."""
        ...


class CaseRunner:
    """Does the work of cases in this process; use it in one event loop.

    Args:
        gsco: specialists, store and generalist. It must outlive the desk.
        card: of the run.
        arms: those of the card.
        plan: how cases are diagnosed.
    """

    def __init__(self, gsco: GSCo, card: RunCard, arms: Sequence[Arm], plan: Plan) -> None:
        self._gsco, self._card, self._task, self._plan = gsco, card, card.task, plan
        self._arms = list(arms)
        self._collaboration: DiagnosisContext | None = None

    async def do(self, work: CaseWork) -> CaseResult:
        """Do the work of one case; what goes wrong with it stands in its outcomes."""
        due = [arm for arm in self._arms if arm.name in work.arms]
        abilities = [arm for arm in due if isinstance(arm, AbilityArm)]
        decided = await self._decided([arm for arm in due if arm not in abilities], work)
        shown = await self._abilities(abilities, work)
        return CaseResult(decided.evidence, (*decided.outcomes, *shown))

    async def _decided(self, arms: Sequence[Arm], work: CaseWork) -> CaseResult:
        """Gather the evidence and let the arms decide by it."""
        if not arms:
            return CaseResult((), ())
        try:
            evidence, fresh = await self._gathered(work)
        except GscoError as error:
            return CaseResult((), tuple(self._failed(arm, work, error) for arm in arms))
        answers: dict[str, asyncio.Future[Answer]] = {}
        outcomes = await asyncio.gather(*(self._outcome(arm, work, evidence, answers) for arm in arms))
        return CaseResult(fresh, tuple(outcomes))

    async def _abilities(self, abilities: Sequence[AbilityArm], work: CaseWork) -> list[Outcome]:
        """Let the generalist show its abilities, one after the other."""
        case, found = work.asked.case, list[Outcome]()
        if isinstance(case, GscoError):
            return [self._failed(arm, work, case) for arm in abilities]
        asked = AbilityQuestion(self._gsco, self._task, case, work.asked.truth)
        for arm in abilities:
            try:
                hit, said = await arm.show(asked)
            except GscoError as error:
                found.append(self._failed(arm, work, error))
            else:
                outcome = self._outcome_of(arm, work, ArmDecision((), text=said))
                found.append(outcome.model_copy(update={"hit": hit}))
        return found

    def close(self) -> None:
        """There is nothing to release."""

    async def _gathered(self, work: CaseWork) -> tuple[Evidence, tuple[CaseEvidence, ...]]:
        case = work.asked.case
        if isinstance(case, GscoError):
            raise case
        if work.evidence is not None:
            return work.evidence, ()
        policies: Policies = {**self._plan.policies, "moed": "prefer", "rad": "prefer"}
        start = time.perf_counter()
        evidence = await self._gsco.aevidence(case, task=self._task, **policies)
        found = CaseEvidence(
            case=work.asked.id,
            configuration=self._card.evidence,
            sha256=case.images[0].sha256,
            evidence=slim(evidence),
            seconds={"evidence": time.perf_counter() - start},
        )
        # Reports of similar cases are shown to the generalist, and never written down.
        return evidence, (found,)

    async def _outcome(
        self, arm: Arm, work: CaseWork, evidence: Evidence, answers: dict[str, asyncio.Future[Answer]]
    ) -> Outcome:
        contradictory = disputed(self._task, evidence) if self._task.kind.closed else None
        if not isinstance(arm, DerivedArm):
            questions = ArmQuestions(self._shared(), answers, self._plan)
            outcome = await self._answer(arm, work, evidence, questions)
            return outcome.model_copy(update={"disputed": contradictory, "tries": questions.tries})
        try:
            fit = self._gsco.fits(self._task.name) if arm.fitted else None
            outcome = self._outcome_of(arm, work, arm.decide(self._task, evidence, fit))
        except (NoEvidence, GscoError) as error:
            return self._failed(arm, work, error)
        return outcome.model_copy(update={"disputed": contradictory})

    async def _answer(self, arm: Arm, work: CaseWork, evidence: Evidence, questions: ArmQuestions) -> Outcome:
        """Decide by the very steps of a diagnosis; the published protocol sees what its arm allows."""
        case, task = work.asked.case, work.task or self._task
        assert isinstance(case, Case), "a case without images was sorted out before"
        start, collaboration = time.perf_counter(), questions.collaboration
        if isinstance(arm, GeneralistArm):
            evidence = restricted(evidence, arm)
            collaboration = replace(collaboration, decision="generalist", max_error=None)
        try:
            answer, seen = await answer_where_wanted(case, task, evidence, collaboration)
            diagnosis = conclude(case, task, seen, answer, collaboration)
        except GscoError as error:
            return self._failed(arm, work, error)
        return self._outcome_of(arm, work, decision_of(diagnosis)).model_copy(
            update={
                "calls": questions.calls,
                "mass": None if answer is None else answer.mass,
                "parse": "" if answer is None else diagnosis.parse,
                "rule": "" if diagnosis.fusion is None else diagnosis.fusion.rule,
                "missing": tuple(f"{one.source}: {one.reason}" for one in seen.missing),
                "seconds": {"decide": time.perf_counter() - start},
            }
        )

    def _shared(self) -> DiagnosisContext:
        if self._collaboration is None:
            self._gsco.generalist()
            found = self._gsco.collaboration(**self._plan.policies)
            # What this installation has seen before must not change the numbers.
            self._collaboration = replace(found, given=self._task, monitor=None)
        return self._collaboration

    def _failed(self, arm: Arm, work: CaseWork, error: Exception) -> Outcome:
        outcome = self._outcome_of(arm, work, ArmDecision(()))
        return outcome.model_copy(update={"error": f"{type(error).__name__}: {error}"})

    def _outcome_of(self, arm: Arm, work: CaseWork, decision: ArmDecision) -> Outcome:
        asked = work.asked
        return Outcome(
            task=self._task.name,
            task_version=self._task.version,
            case=asked.id,
            arm=arm.name,
            configuration=self._card.configuration_of(arm.name, work.condition) or "",
            condition=work.condition,
            group=asked.group,
            truth=truth_of(self._task, asked),
            stratum=asked.example.extras.get("answer_type", "") if asked.example else "",
            choices=asked.example.choices if asked.example else (),
            labels=decision.labels,
            probabilities=decision.probabilities,
            confidence=decision.confidence,
            abstained=decision.abstained,
            text=decision.text,
        )


class ArmQuestions:
    """The questions of one arm about one case.

    A question that another arm has put in the same words is not put again. What fails for want of a
    connection is, after growing waits; an answer that cannot be read is not, since it would be the same.

    Args:
        collaboration: who answers.
        answers: by question, shared by the arms of a case.
        plan: how often and when a question is put again.
    """

    def __init__(
        self, collaboration: DiagnosisContext, answers: dict[str, asyncio.Future[Answer]], plan: Plan
    ) -> None:
        self._choose, self._generate = collaboration.choose, collaboration.generate
        self._answers, self._plan = answers, plan
        self.collaboration = replace(collaboration, choose=self.choose, generate=self.generate)
        self.calls = 0
        """Questions of this arm; one that arms share counts for each."""
        self.tries = 1
        """The most often that one of them was put."""

    async def choose(self, choice: Choice) -> Answer:
        """Ask a closed question.

        Raises:
            GeneralistError: no answer could be had.
        """
        self.calls += 1
        key = repr(([(message.type, message.content) for message in choice.messages], choice.options))
        if key not in self._answers:
            self._answers[key] = asyncio.ensure_future(self._tried(lambda: self._choose(choice)))
        return await asyncio.shield(self._answers[key])

    async def generate(self, messages: Sequence[BaseMessage]) -> str:
        """Ask an open question.

        Raises:
            GeneralistError: no answer could be had.
        """
        self.calls += 1
        return await self._tried(lambda: self._generate(messages))

    async def _tried(self, ask: Callable[[], Awaitable[T]]) -> T:
        tries = 0
        while True:
            tries += 1
            self.tries = max(self.tries, tries)
            try:
                return await ask()
            except GeneralistError as error:
                if isinstance(error, AnswerUnparsed) or tries > self._plan.retries:
                    raise
                await asyncio.sleep(self._plan.retry_wait * 2 ** (tries - 1))


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


def slim(evidence: Evidence) -> Evidence:
    """Leave out the report texts of similar cases: clinical text is not written to a run's folder."""
    cases = [case.model_copy(update={"report": None}) for case in evidence.similar_cases]
    return evidence.model_copy(update={"similar_cases": tuple(cases)})


def truth_of(task: Task, asked: EvalCase) -> tuple[str, ...]:
    """What is true of a case: its labels, every accepted answer, or its report."""
    example = asked.example
    if example is None or task.kind.closed:
        return asked.truth
    return (example.report,) if example.report is not None else example.answers
