"""Runs as logs of inspect_ai, so that its viewer shows them: ``inspect view --log-dir FOLDER/inspect``.

Each arm of a run becomes one log: its cases are samples, the generalist's question is rebuilt from the
evidence that was written down, and the score is whether the arm said the true labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..case import Case, Evidence, ImageRef, Task
from ..errors import ConfigurationError
from .arms import GENERALISTS, GeneralistArm
from .outcomes import Current, current, gathered, runs_in
from .records import CaseEvidence, Outcome, RunCard

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalResults, EvalSample
    from inspect_ai.model import ChatMessage
    from langchain_core.messages import BaseMessage

_BY_NAME = {arm.name: arm for arm in GENERALISTS}
_GENERALIST_SCORER = "right"


def export_logs(folder: Path, out: Path) -> list[Path]:
    """Write one log per run and arm.

    Args:
        folder: of a run, or with the folders of several.
        out: where the logs go; logs of the same name are replaced.

    Raises:
        ConfigurationError: there is no run, or inspect_ai is not installed.
    """
    try:
        from inspect_ai.log import write_eval_log
    except ModuleNotFoundError as error:
        raise ConfigurationError("inspect_ai is not installed; pip install 'gsco[inspect]'") from error
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for home in runs_in(folder):
        found = current(home)
        evidence = gathered(home, found.run)
        for arm, outcomes in found.outcomes.items():
            path = out / f"{home.name}_{arm.replace(':', '-')}.eval"
            write_eval_log(_log(found, home.name, arm, outcomes, evidence), str(path))
            written.append(path)
    return written


def _log(
    found: Current,
    name: str,
    arm: str,
    outcomes: Sequence[Outcome],
    evidence: Mapping[str, CaseEvidence],
) -> EvalLog:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalPlan, EvalSpec, EvalStats

    run = found.run
    samples = [_sample(run, arm, outcome, evidence.get(outcome.case)) for outcome in outcomes]
    generalist = run.configuration.get("generalist", {})
    return EvalLog(
        status="success",
        eval=EvalSpec(
            created=run.started,
            task=f"{name}/{arm}",
            dataset=EvalDataset(name=run.dataset, samples=len(samples), sample_ids=[s.id for s in samples]),
            model=f"gsco/{generalist.get('name') or 'no generalist'}",
            config=EvalConfig(),
            metadata={
                "arm": arm,
                "configuration": run.arms[arm],
                "dataset_sha256": run.dataset_sha256,
                "split": run.split,
                "parts": dict(run.configuration),
                "machine": dict(run.machine),
            },
            packages=dict(run.versions),
        ),
        plan=EvalPlan(name=arm),
        results=_results(outcomes),
        stats=EvalStats(started_at=run.started, completed_at=run.started),
        samples=samples,
    )


def _results(outcomes: Sequence[Outcome]) -> EvalResults:
    from inspect_ai.log import EvalMetric, EvalResults, EvalScore

    right = [outcome.right for outcome in outcomes]
    accuracy = sum(right) / len(right) if right else 0.0
    return EvalResults(
        total_samples=len(outcomes),
        completed_samples=sum(outcome.error is None for outcome in outcomes),
        scores=[
            EvalScore(
                name=_GENERALIST_SCORER,
                scorer=_GENERALIST_SCORER,
                metrics={"accuracy": EvalMetric(name="accuracy", value=accuracy)},
            )
        ],
    )


def _sample(run: RunCard, arm: str, outcome: Outcome, found: CaseEvidence | None) -> EvalSample:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessageAssistant, ModelOutput
    from inspect_ai.scorer import Score

    asked = list(_prompt_of(run, arm, found))
    said = outcome.text or ", ".join(outcome.labels)
    return EvalSample(
        id=outcome.case,
        epoch=1,
        input=asked or outcome.case,
        target=list(outcome.truth),
        choices=list(run.task.options) or None,
        messages=[*asked, ChatMessageAssistant(content=said)],
        output=ModelOutput.from_content(model="gsco", content=said),
        scores={
            _GENERALIST_SCORER: Score(
                value="C" if outcome.right else "I",
                answer=said,
                explanation=outcome.error or _explained(found),
                metadata={"confidence": outcome.confidence, "abstained": outcome.abstained},
            )
        },
        metadata={
            "probabilities": dict(outcome.probabilities or {}),
            "disputed": outcome.disputed,
            "group": outcome.group,
            "calls": outcome.calls,
            "seconds": dict(outcome.seconds),
            "missing": list(outcome.missing),
        },
    )


def _prompt_of(run: RunCard, arm: str, found: CaseEvidence | None) -> Iterator[ChatMessage]:
    """The text that the generalist was asked with; of arms that ask nobody there is none."""
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser

    asking = _BY_NAME.get(arm)
    if asking is None or found is None or not run.task.kind.closed:
        return
    for message in _messages(run, asking, found):
        kind = ChatMessageSystem if message.type == "system" else ChatMessageUser
        yield kind(content=str(message.text))


def _messages(run: RunCard, arm: GeneralistArm, found: CaseEvidence) -> Sequence[BaseMessage]:
    from ..graphs.nodes.ask import choices
    from ..models.generalist.prompts import PROFILES
    from .case_runner import restricted

    profile = PROFILES[str(run.plan.get("profile", "paper"))]
    case = Case(id=found.case, images=(ImageRef(sha256=found.sha256, width=1, height=1),))
    evidence: Evidence = restricted(found.evidence, arm)
    task: Task = run.task
    return choices(case, task, evidence, profile)[0].messages


def _explained(found: CaseEvidence | None) -> str:
    if found is None:
        return ""
    said = [f"{one.specialist}: {', '.join(one.labels)}" for one in found.evidence.opinions]
    near = [f"{'+'.join(one.labels)} ({one.similarity:.2f})" for one in found.evidence.similar_cases]
    return f"Specialists: {'; '.join(said) or 'none'}. Similar cases: {'; '.join(near) or 'none'}."
