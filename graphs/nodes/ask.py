"""The question: the generalist is asked where the decision rule wants it, with all evidence before it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress

from langgraph.runtime import Runtime

from ...case import Answer, Case, Evidence, Missing, Task, TaskKind
from ...errors import GeneralistError, ImageError, PromptTooLong, StoreError, TooManyImages
from ...models.generalist.hints import nearest
from ...models.generalist.prompts import PRESENCE, Exemplar, Profile
from ...models.generalist.protocol import Choice
from ..diagnosis_context import DiagnosisContext
from ..exemplars import exemplars
from ..fusion import GENERALIST, asks_generalist, present_labels
from ..state import DiagnosisState
from .moed import absent

logger = logging.getLogger(__name__)

_CERTAINTY = ("probabilities", "exact", "alias", "text")


async def ask_generalist(state: DiagnosisState, runtime: Runtime[DiagnosisContext]) -> dict[str, object]:
    """Gather the evidence of all branches, and ask the generalist where the decision rule wants it.

    Where the decision can do without it, a generalist that fails is missing like any other source.

    Raises:
        GeneralistError: it cannot be reached or understood, and nobody else may decide in its place.
        TaskError: the task asks a question and the case has none.
    """
    start = time.perf_counter()
    collaboration = runtime.context
    case, task = state["case"], collaboration.task(state["gate"].task)
    evidence = evidence_of(state, task, collaboration)
    if collaboration.evidence_only:
        return {"evidence": evidence}
    answer, evidence = await answer_where_wanted(case, task, evidence, collaboration)
    return {"evidence": evidence, "answer": answer, "timings": {"ask": time.perf_counter() - start}}


async def answer_where_wanted(
    case: Case, task: Task, evidence: Evidence, collaboration: DiagnosisContext
) -> tuple[Answer | None, Evidence]:
    """The generalist's answer, or None where it is not asked or not needed and fails; and the evidence.

    Similar cases that did not fit into the prompt are taken out of the evidence only where the generalist
    decides alone: a pool can read them all.

    Raises:
        GeneralistError: it fails, and nobody else may decide in its place.
    """
    plan = collaboration.plan(task, evidence)
    if not asks_generalist(plan, task, evidence):
        return None, evidence
    alone = plan.rule == "generalist" or plan.quiet is None
    # The words of whoever asks must not move a closed decision that was fitted without them.
    seen = case if alone or not task.kind.closed else case.model_copy(update={"context": None})
    try:
        await collaboration.load_generalist()
        answer = await ask(seen, task, evidence, collaboration)
    except GeneralistError as error:
        if alone:
            raise
        missing = Missing(source=GENERALIST, reason=str(error))
        return None, evidence.model_copy(update={"missing": (*evidence.missing, missing)})
    return answer, without_farthest(evidence, answer.left_out) if alone else evidence


def evidence_of(state: DiagnosisState, task: Task, collaboration: DiagnosisContext) -> Evidence:
    """Gather what the branches brought, and what could not be had."""
    unavailable: tuple[Missing, ...] = ()
    if collaboration.moed != "off":
        unavailable = absent(task, collaboration.specialists)
    return Evidence(
        gate=state["gate"],
        opinions=state.get("opinions", ()),
        similar_cases=state.get("similar_cases", ()),
        missing=(*unavailable, *state.get("missing", ())),
    )


async def ask(case: Case, task: Task, evidence: Evidence, collaboration: DiagnosisContext) -> Answer:
    """Put the case to the generalist; where the prompt is too long, without the farthest similar cases.

    Where the profile shows similar cases as images, those go first. As many cases as fit are kept, and
    ``Answer.left_out`` says how many were not.

    Raises:
        PromptTooLong: it is too long even without any similar case.
        TooManyImages: the case has more images than the generalist takes.
    """
    count = len(evidence.similar_cases)
    async with _exemplars_for(case, task, evidence, collaboration) as shown:
        if shown:
            with suppress(PromptTooLong):
                return await put(case, task, evidence, collaboration, shown)
    try:
        return await put(case, task, evidence, collaboration)
    except TooManyImages:
        raise
    except PromptTooLong:
        if not count:
            raise
    answer = await put(case, task, without_farthest(evidence, count), collaboration)
    kept, too_many = 0, count
    while too_many - kept > 1:
        middle = (kept + too_many) // 2
        try:
            answer = await put(case, task, without_farthest(evidence, count - middle), collaboration)
            kept = middle
        except PromptTooLong:
            too_many = middle
    return answer.model_copy(update={"left_out": count - kept})


def without_farthest(evidence: Evidence, left_out: int) -> Evidence:
    """Evidence without the farthest similar cases, and with a note that says so."""
    if not left_out:
        return evidence
    count = len(evidence.similar_cases)
    note = Missing(
        source="retrieval",
        reason=f"{left_out} of {count} similar cases, the farthest, were left out: the prompt would have "
        "been longer than the generalist reads",
    )
    cases = nearest(evidence.similar_cases, count - left_out)
    return evidence.model_copy(update={"similar_cases": cases, "missing": (*evidence.missing, note)})


@asynccontextmanager
async def _exemplars_for(
    case: Case, task: Task, evidence: Evidence, collaboration: DiagnosisContext
) -> AsyncGenerator[tuple[Exemplar, ...]]:
    """The similar cases that are shown as images while the generalist is asked; none that cannot be had."""
    most, pictures, cases = collaboration.profile.exemplars, collaboration.pictures, evidence.similar_cases
    shown: tuple[Exemplar, ...] = ()
    with ExitStack() as stack:
        if most and task.kind.closed and cases and pictures:
            try:
                known = await asyncio.to_thread(
                    lambda: exemplars(case, cases, collaboration.retrieval.store(), most)
                )
                ids = stack.enter_context(pictures(one.thumbnail for one in known))
                shown = tuple(Exemplar(id, one.labels) for id, one in zip(ids, known, strict=True))
            except (StoreError, ImageError) as error:
                logger.warning("similar cases are not shown as images: %s", error)
        yield shown


async def put(
    case: Case,
    task: Task,
    evidence: Evidence,
    collaboration: DiagnosisContext,
    shown: Sequence[Exemplar] = (),
) -> Answer:
    """Put the case to the generalist in the form that the kind of task asks for."""
    profile = collaboration.profile
    if not task.kind.closed:
        messages = profile.open_messages(task, case, evidence.opinions, evidence.similar_cases)
        return Answer(text=await collaboration.generate(messages), parse="text")
    answers = await asyncio.gather(*map(collaboration.choose, choices(case, task, evidence, profile, shown)))
    return answers[0] if task.kind is TaskKind.DIAGNOSIS else joined(task, answers)


def choices(
    case: Case, task: Task, evidence: Evidence, profile: Profile, shown: Sequence[Exemplar] = ()
) -> list[Choice]:
    """Phrase a closed task: one question, or for a multi-label task one for each option."""
    said, found = evidence.opinions, evidence.similar_cases
    if task.kind is TaskKind.DIAGNOSIS:
        return [Choice(profile.closed_messages(task, case, said, found, shown), task.options, task.aliases)]
    return [
        Choice(profile.presence_messages(task, case, option, said, found, shown), PRESENCE)
        for option in task.options
    ]


def joined(task: Task, answers: Sequence[Answer]) -> Answer:
    """Make one answer out of a multi-label task's yes and no, one for each option.

    Probabilities are independent of each other. They are None if one of the answers has none.
    """
    yes = PRESENCE[0]
    present = {
        option: answer.probabilities[yes] if answer.probabilities is not None else float(yes in answer.labels)
        for option, answer in zip(task.options, answers, strict=True)
    }
    known = all(answer.probabilities is not None for answer in answers)
    masses = [answer.mass for answer in answers if answer.mass is not None]
    return Answer(
        labels=present_labels(task, present),
        probabilities=present if known else None,
        text=",".join(answer.text for answer in answers),
        parse=max((answer.parse for answer in answers), key=lambda parse: _CERTAINTY.index(parse)),
        mass=min(masses, default=None),
    )
