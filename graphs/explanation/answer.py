"""The answer to a question, chosen by its topic and written from the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...case import Diagnosis, Task
from . import decision as decided
from . import evidence as rests_on
from .question import Topic, UserQuestion
from .record import ImageRecord
from .sentences import listed, named, percent, plain, sentence
from .titles import titled, titles

HONEST = (
    "With the bundled generalist I can only explain the recorded evidence; a served medical model can "
    "discuss this: set GSCO_GENERALIST_URL to one."
)
"""What is said to everything that the record does not answer."""
ASKABLE = (
    "Ask me for the diagnosis, how sure it is, why, why not something else, what the specialists say, "
    "who disagrees, similar cases, a counter-example, where a specialist looked, what a person decided, "
    "a report, or a comparison of two images."
)
SEND = "Send an image first, as a picture or a DICOM file."
MOST_OPTIONS = 6
"""A task with more options is told of without them."""


def written(
    question: UserQuestion,
    records: Sequence[ImageRecord],
    *,
    tasks: Sequence[Task],
    fresh: bool = False,
    places: Mapping[str, str] | None = None,
) -> str:
    """Write the answer to a question. A pure function.

    Args:
        question: as it was understood.
        records: of the images that it is about; empty where the conversation has none.
        tasks: that can be asked here.
        fresh: whether the images came with the question: then their decisions are told in any case.
        places: for ``Topic.LOCATION``: by image id, where a specialist looked, in a sentence.
    """
    if not records:
        return without_image(question, tasks)
    if question.topic is Topic.COMPARE:
        return compared([titled(record) for record in records])
    said = [
        _about(_with_titles(question, record), titled(record), tasks, places or {}, fresh)
        for record in records
    ]
    if not question.topic.of_record:
        return "\n\n".join([*(said if fresh else ()), *_aside(question, tasks, fresh)])
    return "\n\n".join(said)


def _with_titles(question: UserQuestion, record: ImageRecord) -> UserQuestion:
    """A question that calls the specialists of a record as its answer does."""
    called = titles(record.diagnosis.evidence) if record.diagnosis else {}
    return replace(question, specialists=tuple(called.get(name, name) for name in question.specialists))


def without_image(question: UserQuestion, tasks: Sequence[Task]) -> str:
    """What is said in a conversation that has no image yet."""
    if question.topic is Topic.GREETING:
        return f"Hello. {_abilities(tasks)} {SEND}"
    if question.topic is Topic.CAPABILITIES:
        return f"{_abilities(tasks)} {SEND} {ASKABLE}"
    if question.topic is Topic.THANKS:
        return "You are welcome."
    if question.topic is Topic.OTHER:
        return HONEST
    if question.topic is Topic.PROVENANCE:
        return (
            "This is gsco, a program and no doctor: a generalist, specialist classifiers and known cases "
            f"decide together. {_abilities(tasks)} {SEND}"
        )
    return f"There is no image in this conversation yet, so nothing is on record. {SEND}"


def compared(records: Sequence[ImageRecord]) -> str:
    """Two or more images side by side."""
    if len(records) < 2:
        return (
            f"There is only one image here to compare, {records[0].name}. {_in_short(records[0])} "
            "Send another image to compare it with."
        )
    lines = [_in_short(record) for record in records]
    tasks = {record.diagnosis.task for record in records if record.diagnosis}
    labels = {
        record.diagnosis.labels
        for record in records
        if record.diagnosis and not rests_on.rejected(record.diagnosis)
    }
    undecided = [
        record for record in records if record.diagnosis is None or rests_on.rejected(record.diagnosis)
    ]
    if undecided:
        verdict = f"Their decisions cannot be compared: {listed([one.name for one in undecided])} has none."
    elif len(tasks) > 1:
        verdict = "They are images of different kinds, so their decisions are answers to different questions."
    elif len(labels) > 1:
        verdict = f"The decisions differ: {listed([named(label) for label in sorted(labels)])}."
    else:
        verdict = f"The decision is the same: {named(next(iter(labels)))}."
    return "\n\n".join([*lines, verdict])


def undiagnosed(record: ImageRecord, tasks: Sequence[Task] = ()) -> str:
    """Why an image has no diagnosis, what it looks like, and which tasks there are."""
    name = f"{record.name[:1].upper()}{record.name[1:]}"
    like = record.likeness
    if like is None:
        reasons = " ".join(sentence(plain(reason)) for reason in record.reasons)
        return f"{name} was not diagnosed. {reasons or 'Nothing about it is on record.'}"
    usual = f", where {like.usual:.2f} is usual at least" if like.usual is not None else ""
    near = (
        f"It is nearest to {like.modality}: {percent(like.share)} of the nearest known images are of that "
        f"kind, and the closest has similarity {like.similarity:.2f}{usual}."
    )
    foreign = like.usual is not None and like.similarity < like.usual
    verdict = (
        "So it seems to be no image of a kind that is known here."
        if foreign
        else f"So it seems to be {like.modality}."
    )
    return f"{name} was not diagnosed. {near} {verdict} {_kinds(tasks)}".strip()


def _about(
    question: UserQuestion, record: ImageRecord, tasks: Sequence[Task], places: Mapping[str, str], fresh: bool
) -> str:
    diagnosis = record.diagnosis
    if diagnosis is None:
        return undiagnosed(record, tasks)
    first = decided.decision(record, diagnosis)
    if question.topic is Topic.DECISION and (labels := _labels(question, record)):
        text = decided.why_not(record, diagnosis, labels, record.task)
    elif question.topic is Topic.DECISION or not question.topic.of_record:
        text = _decision(record, diagnosis, first)
    elif not diagnosis.kind.closed and question.topic not in (Topic.MODALITY, Topic.PROVENANCE, Topic.REVIEW):
        text = first
    else:
        text = _on(question, record, diagnosis, places)
        # A new image's decision comes first, whatever was asked; elsewhere only where several are told of.
        if first not in text and (fresh or record.of > 1):
            text = f"{first} {text}"
    return text


def _decision(record: ImageRecord, diagnosis: Diagnosis, first: str) -> str:
    """The decision with what it rests on, in short."""
    if not diagnosis.kind.closed or decided.overruled(diagnosis):
        return first
    panel = rests_on.unanimous(diagnosis) or rests_on.panel(diagnosis)
    return " ".join(filter(None, [first, panel, rests_on.similar(diagnosis, 1)]))


def _on(question: UserQuestion, record: ImageRecord, diagnosis: Diagnosis, places: Mapping[str, str]) -> str:
    labels = _labels(question, record)
    if question.topic is Topic.LOCATION:
        return places.get(record.image.id) or "Where a specialist looked is not on record."
    if question.topic is Topic.SPECIALISTS:
        return rests_on.specialists(diagnosis, question.specialists, labels)
    if question.topic is Topic.DISAGREEMENT:
        return rests_on.disagreement(diagnosis)
    if question.topic is Topic.SIMILAR:
        own = rests_on.labelled(diagnosis, labels) if labels else ""
        return f"{own} {rests_on.similar(diagnosis, question.count or (1 if own else None))}".strip()
    if question.topic is Topic.COUNTER_EXAMPLE:
        return rests_on.counter_example(diagnosis, labels)
    if question.topic is Topic.ACCURACY:
        return rests_on.accuracy(diagnosis)
    return _of_decision(question.topic, labels, record, diagnosis)


def _of_decision(topic: Topic, labels: Sequence[str], record: ImageRecord, diagnosis: Diagnosis) -> str:
    others = [label for label in labels if label not in rests_on.supported(diagnosis)]
    if topic is Topic.WHY_NOT or (topic is Topic.WHY and others):
        return decided.why_not(record, diagnosis, labels, record.task)
    if topic is Topic.CONFIDENCE:
        asked = decided.probability_of(diagnosis, others)
        return f"{decided.confidence(record, diagnosis)} {asked}".strip()
    told = {
        Topic.ALTERNATIVES: decided.alternatives,
        Topic.WHY: decided.why,
        Topic.REVIEW: decided.review_status,
        Topic.REPORT: decided.report,
        Topic.MODALITY: decided.modality,
        Topic.PROVENANCE: decided.provenance,
    }
    return told[topic](record, diagnosis)


def _aside(question: UserQuestion, tasks: Sequence[Task], fresh: bool) -> list[str]:
    """What is said to that which the record has nothing to do with."""
    if question.topic is Topic.CAPABILITIES:
        return [f"{_abilities(tasks)} {ASKABLE}"]
    if question.topic is Topic.GREETING:
        return [] if fresh else [f"Hello. {ASKABLE}"]
    if question.topic is Topic.THANKS:
        return [] if fresh else ["You are welcome."]
    # Words that come with a new image are often no question but its history.
    return [HONEST] if question.asks or not fresh else []


def _in_short(record: ImageRecord) -> str:
    """One image in a line: decision, specialists, closest case."""
    name = f"{record.name[:1].upper()}{record.name[1:]}"
    diagnosis = record.diagnosis
    if diagnosis is None:
        return undiagnosed(record)
    if not diagnosis.kind.closed:
        return decided.answer(record, diagnosis)
    if decided.overruled(diagnosis):
        return decided.decision(record, diagnosis)
    sure = f" ({percent(diagnosis.confidence)})" if diagnosis.confidence is not None else ""
    doubt = ", a person must decide" if diagnosis.abstained and diagnosis.review is None else ""
    first = f"{name}: {named(diagnosis.labels)}{sure}{doubt}."
    return " ".join(filter(None, [first, rests_on.panel(diagnosis), rests_on.similar(diagnosis, 1)]))


def _labels(question: UserQuestion, record: ImageRecord) -> tuple[str, ...]:
    return question.labels(record.task) if record.task else ()


def _abilities(tasks: Sequence[Task]) -> str:
    return (
        "I diagnose medical images with specialist classifiers and similar known cases, and explain what is "
        f"on record about them. {_kinds(tasks)}"
    )


def _kinds(tasks: Sequence[Task]) -> str:
    """The kinds of images that can be diagnosed here."""
    told = [
        f"{task.modality} ({listed(task.options, 'or') if len(task.options) <= MOST_OPTIONS else task.title})"
        for task in tasks
        if task.options
    ]
    return f"The kinds of images that can be diagnosed here are: {'; '.join(told)}." if told else ""
