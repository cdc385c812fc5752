"""The answer from the record, for a generalist that decides and calls functions but does not converse."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langgraph.runtime import Runtime

from ...case import Diagnosis, Task
from ...errors import GscoError
from ...models.generalist.messages import parts
from ..consultation_context import ConsultationContext, ConsultationState, images_of_turn, latest_turn
from ..diagnosis_context import DiagnosisContext
from ..explanation.answer import written
from ..explanation.decision import is_negative
from ..explanation.question import Topic, UserQuestion, understand
from ..explanation.record import ImageRecord, image_records, subject
from ..explanation.region import focus
from ..explanation.sentences import named, plain, sentence
from ..explanation.titles import titles


class RecordAnswer(AgentMiddleware[ConsultationState, ConsultationContext]):
    """Writes the answer from the record where the generalist does not converse."""

    state_schema = ConsultationState

    async def aafter_agent(
        self, state: ConsultationState, runtime: Runtime[ConsultationContext]
    ) -> dict[str, object] | None:
        """Write the answer, after people have decided."""
        if runtime.context.converses:
            return None
        text = await record_answer(state, runtime.context)
        wordless = (
            RemoveMessage(id=one.id)
            for one in latest_turn(state["messages"])
            if isinstance(one, AIMessage) and not one.text and not one.tool_calls and one.id
        )
        return {"messages": [*wordless, AIMessage(text, id=f"answer-{state['turn']}")]}


async def record_answer(state: ConsultationState, context: ConsultationContext) -> str:
    """Answer the latest question of a conversation from its record.

    Args:
        state: of the consultation graph.
        context: who takes part.
    """
    collaboration = context.collaboration
    cards = {task.name: task for task in collaboration.tasks}
    records = image_records(state, cards)
    question = question_of(state, records, collaboration)
    about = records_in_question(question, records, state)
    fresh = bool(images_of_turn(state))
    places = await _places(question, about, collaboration) if question.topic is Topic.LOCATION else {}
    return written(question, about, tasks=askable(collaboration), fresh=fresh, places=places)


def question_of(
    state: ConsultationState, records: Sequence[ImageRecord], collaboration: DiagnosisContext
) -> UserQuestion:
    """Read the latest question, with the words of all tasks and the specialists on record."""
    asked = next(one for one in reversed(state["messages"]) if isinstance(one, HumanMessage))
    known = list(askable(collaboration))
    tasks = [one.task for one in records if one.task] or known
    names = {name for task in tasks for name in collaboration.specialists.members(task.name)}
    called = [titles(one.diagnosis.evidence) for one in records if one.diagnosis]
    said = {name for each in called for pair in each.items() for name in pair}
    return understand(parts(asked)[1], [*tasks, *known], sorted(names | said))


def records_in_question(
    question: UserQuestion, records: Sequence[ImageRecord], state: ConsultationState
) -> tuple[ImageRecord, ...]:
    """The images that a question is about; to compare there must be two of them where there can be."""
    latest = _latest_images(state["messages"])
    about = subject(question, records, latest)
    if question.topic is Topic.COMPARE and len(about) < 2 and len(records) > 1:
        other = next(one for one in reversed(records) if one not in about)
        return tuple(sorted((*about, other), key=lambda one: one.place))
    return about


def askable(collaboration: DiagnosisContext) -> tuple[Task, ...]:
    """The tasks that images can be diagnosed for here: those that have specialists, else all closed ones."""
    closed = [task for task in collaboration.tasks if task.kind.closed]
    return tuple(task for task in closed if collaboration.specialists.members(task.name)) or tuple(closed)


def _latest_images(messages: Iterable[object]) -> tuple[str, ...]:
    shown: tuple[str, ...] = ()
    for one in messages:
        shown = (isinstance(one, HumanMessage) and parts(one)[0]) or shown
    return shown


async def _places(
    question: UserQuestion, records: Sequence[ImageRecord], collaboration: DiagnosisContext
) -> dict[str, str]:
    looked = [(one, one.diagnosis) for one in records if one.diagnosis is not None]
    told = await asyncio.gather(*(_place(question, one, found, collaboration) for one, found in looked))
    return {one.image.id: text for (one, _), text in zip(looked, told, strict=True)}


async def _place(
    question: UserQuestion, record: ImageRecord, diagnosis: Diagnosis, collaboration: DiagnosisContext
) -> str:
    """Where the most reliable specialist that named the decision looked, or the one that is asked about."""
    opinions = [one for one in diagnosis.evidence.opinions if one.labels]
    called = titles(diagnosis.evidence)
    asked = set(question.specialists)
    wanted = [one for one in opinions if asked & {one.specialist, called[one.specialist]}]
    agreeing = [one for one in opinions if set(one.labels) & set(diagnosis.labels)]
    opinion = max(wanted or agreeing or opinions, key=lambda one: one.reliability or 0.0, default=None)
    if opinion is None:
        return "No specialist gave an opinion on it, so there is no place to tell of."
    title = called[opinion.specialist]
    label = next((one for one in opinion.labels if one in diagnosis.labels), opinion.labels[0])
    if is_negative([label], record.task) and is_negative(diagnosis.labels, record.task):
        return f"The decision is {named(diagnosis.labels)}: there is no finding to locate."
    try:
        heat = await collaboration.specialists.attention(
            diagnosis.task, opinion.specialist, record.image, label
        )
    except GscoError as error:
        return sentence(f"Where {title} looked cannot be said: {plain(str(error))}")
    if (place := focus(heat)) is None:
        return f"In no place did {title} find what speaks for {label}."
    return (
        f"For {label} {title} looked mostly at the {place} of the image. That is where it found what speaks "
        "for this label; it outlines no finding and proves none."
    )
