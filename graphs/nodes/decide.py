"""The decision: sources become one distribution, and the policy says whether it stands without a person."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from langgraph.runtime import Runtime

from ... import __version__
from ...case import Answer, Case, Diagnosis, Evidence, Task
from ...errors import GeneralistError, GscoError
from ..certificate import Certificate
from ..diagnosis_context import DiagnosisContext
from ..fusion import FusedDecision, counter_example, decide_by
from ..policy import conflict_of, doubts_of, remarks
from ..state import DiagnosisState


async def decide(state: DiagnosisState, runtime: Runtime[DiagnosisContext]) -> dict[str, object]:
    """Make the diagnosis of the evidence and of the generalist's answer."""
    start = time.perf_counter()
    collaboration, case, evidence = runtime.context, state["case"], state["evidence"]
    task = collaboration.task(state["gate"].task)
    diagnosis = await asyncio.to_thread(_watched, case, task, evidence, state.get("answer"), collaboration)
    diagnosis = await with_counter_example(case, task, diagnosis, collaboration)
    timings = {**state.get("timings", {}), "decide": time.perf_counter() - start}
    return {"diagnosis": diagnosis.model_copy(update={"timings": timings})}


def _watched(
    case: Case, task: Task, evidence: Evidence, answer: Answer | None, collaboration: DiagnosisContext
) -> Diagnosis:
    """Conclude and watch for drift; in a thread, since both read and write files."""
    diagnosis = conclude(case, task, evidence, answer, collaboration)
    collaboration.watch(diagnosis)
    return diagnosis


def conclude(
    case: Case, task: Task, evidence: Evidence, answer: Answer | None, collaboration: DiagnosisContext
) -> Diagnosis:
    """Make a diagnosis; whichever face asks, this is the code that decides.

    Args:
        case: what was asked.
        task: how it was asked.
        evidence: of specialists, similar cases and the gate.
        answer: the generalist's; None where it was not asked or failed.
        collaboration: who takes part, with fits and policy.

    Raises:
        GeneralistError: no source gave an answer that counts.
    """
    shared: dict[str, Any] = {
        "case_id": case.id,
        "task": task.name,
        "kind": task.kind,
        "evidence": evidence,
        "generalist": collaboration.generalist if answer is not None else "",
        "generalist_answer": answer if task.kind.closed else None,
        "profile": f"{collaboration.profile.name}@{collaboration.profile.hash}",
        "versions": versions(task, evidence, collaboration, asked=answer is not None),
    }
    if not task.kind.closed:
        assert answer is not None, "an open task is answered by the generalist"
        reasons = tuple(remarks(evidence, False, None))
        return Diagnosis(**shared, text=answer.text, reasons=reasons, parse=answer.parse)
    decision = _decision(task, evidence, answer, collaboration)
    policy = collaboration.answer_policy(task, evidence)
    doubts = tuple(doubts_of(task, evidence, decision, policy))
    fit = collaboration.fit(task.name)
    confidence = decision.confidence
    return Diagnosis(
        **shared,
        label=", ".join(decision.labels),
        labels=decision.labels,
        probabilities=decision.probabilities,
        confidence=confidence,
        observed=fit.meaning(confidence)
        if fit is not None and decision.fusion.fitted and confidence is not None
        else None,
        abstained=bool(doubts),
        promise=_promise(policy.certificate, bool(doubts)),
        reasons=(
            *doubts,
            *filter(None, [collaboration.drift(task.name) if not policy.suspended else None]),
            *decision.fusion.notes,
            *remarks(evidence, True, confidence),
        ),
        conflict=conflict_of(task, decision.labels, answer.labels if answer else None, evidence),
        fusion=decision.fusion,
        parse=answer.parse if answer is not None else "probabilities",
    )


def _decision(
    task: Task, evidence: Evidence, answer: Answer | None, collaboration: DiagnosisContext
) -> FusedDecision:
    try:
        return decide_by(collaboration.plan(task, evidence), task, evidence, answer)
    except LookupError as error:
        raise GeneralistError(f"no decision on {task.name}: {error}") from error


def _promise(certificate: Certificate | None, doubted: bool) -> str | None:
    if certificate is None:
        return None
    if certificate.limit is None:
        return certificate.words
    return f"{'left to a person' if doubted else 'answers alone'}; {certificate.words}"


async def with_counter_example(
    case: Case, task: Task, diagnosis: Diagnosis, collaboration: DiagnosisContext
) -> Diagnosis:
    """Add the nearest known case of the rival label, where none is among the similar ones."""
    fusion = diagnosis.fusion
    if fusion is None or fusion.counter_example is not None or not diagnosis.evidence.similar_cases:
        return diagnosis
    # The rival is a label of the task, or of a multi-label task the absence of the decision's.
    carries = fusion.rival in task.options
    try:
        found = await collaboration.retrieval.similar(
            case.images,
            task.name,
            1,
            labels=(fusion.rival,) if carries else (),
            without=() if carries else (fusion.decision,),
            exclude=collaboration.exclusion(case),
        )
    except GscoError:
        # The similar cases were found a moment ago: without the counter-example the decision stands.
        return diagnosis
    rival = counter_example(task, fusion.decision, fusion.rival, found)
    if rival is None:
        return diagnosis
    return diagnosis.model_copy(update={"fusion": fusion.model_copy(update={"counter_example": rival})})


def versions(
    task: Task, evidence: Evidence, collaboration: DiagnosisContext, *, asked: bool
) -> Mapping[str, str]:
    """Name everything that took part, so that the same can be had again."""
    store = collaboration.retrieval.size
    fit = collaboration.fit(task.name)
    return {
        "gsco": __version__,
        "task": task.version,
        **({"generalist": collaboration.generalist} if asked else {}),
        **({} if store is None else {"store": f"{store} cases"}),
        **({} if fit is None else {"fit": fit.version}),
        **{f"specialist:{opinion.specialist}": opinion.version for opinion in evidence.opinions},
    }
