"""Who takes part in a diagnosis, and under which policies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .certificate import certify
from .collaboration_fit import HeldOutScores
from .fusion import SIMILAR, DecisionPlan, RuleWanted, plan_of
from .policy import AnswerPolicy, GatePolicy

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from ..case import Answer, Case, Diagnosis, Evidence, Task
    from ..models.generalist.prompts import Profile
    from ..models.generalist.protocol import Choice
    from ..settings import EvidencePolicy
    from ..tasks import TaskBook
    from ..tools.retrieval import Retrieval
    from ..tools.specialists import Specialists
    from ..tools.stores.protocol import Exclusion
    from .collaboration_fit import CollaborationFit
    from .drift import DriftMonitor


CHANGED = "The collaboration is not the one that was certified: nothing can be promised of this answer."


@dataclass(frozen=True)
class DiagnosisContext:
    """The graph's runtime context: everything that is not part of a case, and so not of its state."""

    tasks: TaskBook
    specialists: Specialists
    retrieval: Retrieval
    choose: Callable[[Choice], Awaitable[Answer]]
    """Asks the generalist a closed question; raises ``GeneralistError``."""
    generate: Callable[[Sequence[BaseMessage]], Awaitable[str]]
    """Asks the generalist an open question; raises ``GeneralistError``."""
    load_generalist: Callable[[], Awaitable[None]]
    """Loads the generalist if it is not loaded yet; raises ``GeneralistError``."""
    generalist_name: Callable[[], str]
    """Its name and version, once it is loaded; empty before."""
    profile: Profile
    neighbours: int = 10
    moed: EvidencePolicy = "prefer"
    rad: EvidencePolicy = "prefer"
    gate: GatePolicy = "refuse"
    near_duplicates: float | None = None
    """Known cases more similar than this are taken for copies of the case and not retrieved."""

    decision: RuleWanted = "auto"
    """Which rule makes the decision; ``auto``: the one that was fitted for the task."""
    fits: Callable[[str], CollaborationFit | None] = lambda task: None
    """What was fitted for a task."""
    fit_problems: Mapping[str, str] = field(default_factory=dict)
    """By task, why what was fitted for it cannot be read."""
    max_error: float | None = None
    """Of the answers given alone at most this share may be wrong; None: the limit of the fit, if any."""
    floors: tuple[tuple[str, float], ...] = ()
    """Labels, with the share of their cases that may be missed by answers given alone."""
    trained_tasks: frozenset[str] | None = None
    """Tasks that the generalist was trained on, where its card says so; None: it may know any."""
    monitor: DriftMonitor | None = None
    """Watches whether the cases are still like those of the fit."""
    evidence_only: bool = False
    """Whether the graph ends with the evidence, without a decision."""
    task_named: bool = True
    """Whether a person named the task, rather than a model that calls functions."""
    pictures: Callable[[Iterable[bytes]], AbstractContextManager[tuple[str, ...]]] | None = None
    """Gives images ids for a while without storing them; None: similar cases are not shown as images."""
    given: Task | None = None
    """A task card that the caller brought along; it goes before one of that name in ``tasks``."""

    def task(self, name: str) -> Task:
        """Find a task card.

        Raises:
            TaskUnknown: there is none of that name.
        """
        return self.given if self.given is not None and self.given.name == name else self.tasks.get(name)

    @property
    def generalist(self) -> str:
        """The generalist's name and version, as it stands in a diagnosis; empty until it was loaded."""
        return self.generalist_name()

    def fit(self, task: str) -> CollaborationFit | None:
        """What was fitted for a task, if it was fitted for this very card."""
        found = self.fits(task)
        return found if found is not None and found.holds_for(self.task(task)) else None

    def stale(self, task: Task, evidence: Evidence) -> dict[str, str]:
        """Sources whose part has changed since the fit, with what has changed."""
        fit = self.fit(task.name)
        if fit is None:
            return {}
        return fit.changes(
            evidence,
            store=self.retrieval.known_digest(task.name),
            encoder=next((case.encoder for case in evidence.similar_cases), ""),
            neighbours=self.neighbours,
            generalist=self.generalist,
            profile=f"{self.profile.name}@{self.profile.hash}",
        )

    def plan(self, task: Task, evidence: Evidence) -> DecisionPlan:
        """How the case with this evidence is to be decided."""
        known = self.trained_tasks is None or task.name in self.trained_tasks
        plan = plan_of(
            task,
            evidence,
            wanted=self.decision,
            fit=self.fit(task.name),
            stale=self.stale(task, evidence),
            reliabilities={
                **{opinion.specialist: opinion.reliability for opinion in evidence.opinions},
                SIMILAR: self.retrieval.reliability(task.name),
            },
            unknown_to_generalist="" if known else "it was not trained on this task",
        )
        if problem := self.fit_problems.get(task.name):
            return replace(plan, notes=(*plan.notes, f"{problem}."))
        return plan

    def answer_policy(self, task: Task, evidence: Evidence) -> AnswerPolicy:
        """What must hold for an answer to be given alone."""
        fit = self.fit(task.name)
        suspended = self.monitor.suspended(task.name, fit) if self.monitor is not None else ""
        max_error = self.max_error or (fit.max_error if fit is not None else None)
        if max_error is None:
            return AnswerPolicy(suspended=suspended)
        if fit is not None and (self.stale(task, evidence) or self.decision not in ("auto", fit.rule)):
            suspended = suspended or CHANGED
        held_out = HeldOutScores() if fit is None else fit.held_out
        return AnswerPolicy(certify(held_out, max_error, floors=self.floors), suspended)

    def drift(self, task: str) -> str | None:
        """What the monitor says of a task, if anything."""
        return (self.monitor.words(task, self.fit(task)) or None) if self.monitor is not None else None

    def watch(self, diagnosis: Diagnosis) -> None:
        """Tell the monitor of a decision that was made."""
        if self.monitor is not None:
            self.monitor.watch(diagnosis, self.fit(diagnosis.task))

    def watch_review(self, diagnosis: Diagnosis) -> None:
        """Tell the monitor what a person made of a decision."""
        if self.monitor is not None:
            self.monitor.reviewed(diagnosis, self.fit(diagnosis.task))

    def exclusion(self, case: Case) -> Exclusion:
        """What retrieval must not find: the case itself, its patient, its near-duplicates."""
        from ..tools.stores.protocol import Exclusion

        return Exclusion(
            sha256s=frozenset(image.sha256 for image in case.images),
            groups=frozenset([case.group] if case.group else ()),
            above_similarity=self.near_duplicates,
        )
