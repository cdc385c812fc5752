"""The cases of a run on their way through its arms.

Cases go through in chunks. Of each chunk the evidence is gathered once, by the gsco arm where it runs,
and written down; arms that need no model call are functions of it. What is written is never asked for
again, except where it was an error.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from ..case import Case, Diagnosis, Evidence, Record
from ..errors import GscoError
from ..models.journal import Log
from . import provenance
from .arms import GSCO, Arm, Decision, DerivedArm, GeneralistArm, NoEvidence, decision_of, disputed
from .cases import Asked
from .evidence import slim, without_generalist
from .leakage import LeakPolicy
from .records import EVIDENCE, OUTCOMES, CaseEvidence, Outcome, RunCard

if TYPE_CHECKING:
    from ..agent.api import GSCo, Policies

EVIDENCE_PARTS = ("panel", "retrieval", "gate")
"""What a case's evidence depends on, beside the data."""


class Plan(Record):
    """What is replayed, and how."""

    arms: tuple[str, ...] = ()
    """Names of arms, ``specialists`` for each of them; empty means all."""
    split: Literal["train", "val", "test"] = "test"
    limit: int | None = Field(default=None, gt=0)
    """Only a random sample of so many cases."""
    profile: Literal["paper", "calibrated"] = "paper"
    neighbours: int = Field(default=10, ge=0)
    gate: Literal["refuse", "warn", "off"] = "warn"
    """Cases of a data set are known to be of the task's modality: by default nothing is refused."""
    near_duplicates: float | None = None
    """Known cases more similar than this are not retrieved."""
    leaks: LeakPolicy = "refuse"
    chunk: int = Field(default=128, gt=0)
    """Cases that are asked for and written together; what a kill loses at most."""
    seed: int = 0

    @property
    def policies(self) -> Policies:
        """What the plan sets of each diagnosis."""
        return {
            "profile": self.profile,
            "neighbours": self.neighbours,
            "gate": self.gate,
            "near_duplicates": self.near_duplicates,
        }


class Finished(NamedTuple):
    """A run that has come to its end."""

    card: RunCard
    done: int
    """Outcomes that were written now; the others were there already."""
    errors: int
    """Outcomes among those that are errors."""


class Replay:
    """A run in progress.

    Args:
        gsco: diagnoses.
        card: of the run.
        arms: those of the card.
        out: folder of the run.
        plan: how cases are diagnosed.
    """

    def __init__(self, gsco: GSCo, card: RunCard, arms: Sequence[Arm], out: Path, plan: Plan) -> None:
        self._gsco, self._card, self._plan = gsco, card, plan
        self._derived = [arm for arm in arms if isinstance(arm, DerivedArm)]
        self._asking = [arm for arm in arms if isinstance(arm, GeneralistArm)]
        self._outcomes = Log(out / OUTCOMES, Outcome)
        self._evidence = Log(out / EVIDENCE, CaseEvidence)
        self._evidence_hash = provenance.configuration_hash(card.configuration, EVIDENCE_PARTS)
        self._silent: GSCo | None = None
        self._written = self._failed = 0

    def all(self, asked: Sequence[Asked], *, quiet: bool) -> Finished:
        """Do all that is not done yet."""
        from ..models.specialist.progress import Progress

        pending = self._pending(asked)
        gathered = self._gathered(pending)
        todo = [one for one in asked if one.id in pending]
        start = time.monotonic()
        try:
            with Progress(f"replaying {self._card.task.name}", len(todo), quiet=quiet) as progress:
                for place in range(0, len(todo), self._plan.chunk):
                    chunk = todo[place : place + self._plan.chunk]
                    self._chunk(chunk, pending, gathered)
                    done = place + len(chunk)
                    rate = done / max(time.monotonic() - start, 1e-9)
                    progress.advance(len(chunk), note=f"{rate:.1f} cases/s, {self._failed} errors")
        finally:
            if self._silent is not None:
                self._silent.close()
        return Finished(self._card, self._written, self._failed)

    def _pending(self, asked: Iterable[Asked]) -> dict[str, set[str]]:
        """Names of the arms that lack an outcome, by case; cases that lack none are left out."""
        wanted = {one.id: set(self._card.arms) for one in asked}
        version = self._card.task.version
        for outcome in self._outcomes:
            current = (version, self._card.arms.get(outcome.arm))
            if outcome.case in wanted and (outcome.task_version, outcome.configuration) == current:
                left = wanted[outcome.case]
                # The last outcome counts: an error that was asked again may have become an answer.
                left.discard(outcome.arm) if outcome.error is None else left.add(outcome.arm)
        return {case: arms for case, arms in wanted.items() if arms}

    def _gathered(self, cases: Mapping[str, object]) -> dict[str, Evidence]:
        """Evidence of these cases that was written down before, unless a part of it could not be had."""
        return {
            found.case: found.evidence
            for found in self._evidence
            if found.case in cases
            and found.configuration == self._evidence_hash
            and not found.evidence.missing
        }

    def _chunk(
        self, chunk: Sequence[Asked], pending: Mapping[str, set[str]], gathered: dict[str, Evidence]
    ) -> None:
        """Write down the evidence of a chunk, then what each arm makes of it."""
        usable = [one for one in chunk if isinstance(one.case, Case)]
        for arm in sorted(self._asking, key=lambda arm: arm != GSCO):
            due = [one for one in usable if arm.name in pending[one.id]]
            results = self._diagnose(self._gsco, due, moed=arm.moed, rad=arm.rad)
            if arm == GSCO:
                self._keep(usable, results, gathered)
            self._write(
                self._said(arm, one, results, gathered) for one in chunk if arm.name in pending[one.id]
            )
        derived = {arm.name for arm in self._derived}
        failed = self._fill([one for one in usable if pending[one.id] & derived], gathered)
        for arm in self._derived:
            due = [one for one in chunk if arm.name in pending[one.id]]
            self._write(self._derive(arm, one, failed, gathered) for one in due)
        for one in chunk:
            gathered.pop(one.id, None)

    def _diagnose(
        self, gsco: GSCo, asked: Sequence[Asked], *, moed: bool, rad: bool
    ) -> dict[str, Diagnosis | GscoError]:
        cases = [one.case for one in asked if isinstance(one.case, Case)]
        policies: Policies = {
            **self._plan.policies,
            "moed": "prefer" if moed else "off",
            "rad": "prefer" if rad else "off",
        }
        results = gsco.diagnose_many(cases, task=self._card.task, on_error="return", **policies)
        return {one.id: result for one, result in zip(asked, results, strict=True)}

    def _keep(
        self,
        asked: Sequence[Asked],
        results: Mapping[str, Diagnosis | GscoError],
        gathered: dict[str, Evidence],
    ) -> None:
        """Write down the evidence of diagnoses that brought some."""
        found = {
            name: slim(result.evidence)
            for name, result in results.items()
            if isinstance(result, Diagnosis) and name not in gathered
        }
        images = {one.id: one.case.images[0].sha256 for one in asked if isinstance(one.case, Case)}
        self._evidence.append(
            CaseEvidence(case=name, configuration=self._evidence_hash, sha256=images[name], evidence=evidence)
            for name, evidence in found.items()
        )
        gathered.update(found)

    def _fill(self, asked: Sequence[Asked], gathered: dict[str, Evidence]) -> Mapping[str, GscoError]:
        """Gather evidence without the generalist where it did not come with a diagnosis.

        Returns:
            By case, why there still is none.
        """
        asked = [one for one in asked if one.id not in gathered]
        if not asked:
            return {}
        if self._silent is None:
            self._silent = without_generalist(self._gsco)
        results = self._diagnose(self._silent, asked, moed=True, rad=True)
        self._keep(asked, results, gathered)
        return {name: result for name, result in results.items() if not isinstance(result, Diagnosis)}

    def _said(
        self,
        arm: GeneralistArm,
        one: Asked,
        results: Mapping[str, Diagnosis | GscoError],
        gathered: Mapping[str, Evidence],
    ) -> Outcome:
        result = one.case if isinstance(one.case, GscoError) else results[one.id]
        if isinstance(result, GscoError):
            return self._outcome(arm, one, result)
        return self._outcome(arm, one, decision_of(result)).model_copy(
            update={
                "disputed": disputed(self._card.task, gathered[one.id]) if arm == GSCO else None,
                "parse": result.parse,
                "missing": tuple(
                    f"{missing.source}: {missing.reason}" for missing in result.evidence.missing
                ),
                "seconds": result.timings,
            }
        )

    def _derive(
        self, arm: DerivedArm, one: Asked, failed: Mapping[str, GscoError], gathered: Mapping[str, Evidence]
    ) -> Outcome:
        if isinstance(one.case, GscoError):
            return self._outcome(arm, one, one.case)
        if one.id not in gathered:
            return self._outcome(arm, one, failed[one.id])
        try:
            decision = arm.decide(self._card.task, gathered[one.id])
        except NoEvidence as error:
            return self._outcome(arm, one, error)
        outcome = self._outcome(arm, one, decision)
        return outcome.model_copy(update={"disputed": disputed(self._card.task, gathered[one.id])})

    def _outcome(self, arm: Arm, one: Asked, result: Decision | Exception) -> Outcome:
        decided = result if isinstance(result, Decision) else Decision(())
        return Outcome(
            task=self._card.task.name,
            task_version=self._card.task.version,
            case=one.id,
            arm=arm.name,
            configuration=self._card.arms[arm.name],
            group=one.group,
            truth=one.truth,
            labels=decided.labels,
            probabilities=decided.probabilities,
            confidence=decided.confidence,
            abstained=decided.abstained,
            error=None if isinstance(result, Decision) else f"{type(result).__name__}: {result}",
        )

    def _write(self, outcomes: Iterable[Outcome]) -> None:
        written = list(outcomes)
        self._outcomes.append(written)
        self._written += len(written)
        self._failed += sum(outcome.error is not None for outcome in written)
