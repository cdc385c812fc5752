"""Sentences about a decision: what it is, how sure, why, why not something else, and who made it."""

from __future__ import annotations

from collections.abc import Sequence

from ...case import Diagnosis, Review, Task
from . import evidence as rests_on
from .record import ImageRecord
from .sentences import listed, named, percent, plain, sentence
from .titles import together

NEGATIVE = frozenset({"normal", "healthy", "no finding", "clean"})
"""An option that is called or may be called so says that nothing was found."""


def decision(record: ImageRecord, diagnosis: Diagnosis) -> str:
    """What was decided, and by whom where a person decided."""
    review = diagnosis.review
    if not diagnosis.kind.closed:
        return answer(record, diagnosis)
    if review is not None and review.decision.action != "approve":
        return reviewed(record, diagnosis, review)
    subject = f"{record.name[:1].upper()}{record.name[1:]}"
    sure = (
        f", with a probability of {percent(diagnosis.confidence)}" if diagnosis.confidence is not None else ""
    )
    if review is not None:
        return f"{subject} is diagnosed as {named(diagnosis.labels)}{sure}. {_who(review)} approved it."
    if diagnosis.abstained:
        why = " ".join(sentence(plain(reason)) for reason in diagnosis.reasons[:1])
        likely = f"{subject} looks most like {named(diagnosis.labels)}{sure}, but a person must decide."
        return f"{likely} {why}".strip()
    return f"{subject} is diagnosed as {named(diagnosis.labels)}{sure}."


def answer(record: ImageRecord, diagnosis: Diagnosis) -> str:
    """The answer to an open task, marked as the generalist's."""
    text = plain(diagnosis.text or "")
    return (
        f"About {record.name} the generalist, a demonstration model, writes: “{text}” Nothing on record "
        "supports or contradicts it."
        if text
        else f"About {record.name} the generalist wrote nothing."
    )


def reviewed(record: ImageRecord, diagnosis: Diagnosis, review: Review) -> str:
    """What a person decided."""
    reason = (
        f" Reason given: {sentence(plain(review.decision.reason))}" if review.decision.reason.strip() else ""
    )
    proposed = named(review.proposed)
    if review.decision.action == "edit":
        return (
            f"{_who(review)} decided that {record.name} shows {named(diagnosis.labels)}.{reason} "
            f"It replaces {proposed}, which was proposed."
        )
    if review.decision.action == "reject":
        return (
            f"{_who(review)} rejected {proposed}, which was proposed for {record.name}.{reason} "
            "There is no accepted diagnosis."
        )
    return f"{_who(review)} approved {named(diagnosis.labels)} for {record.name}.{reason}"


def review_status(record: ImageRecord, diagnosis: Diagnosis) -> str:
    """Whether a person has decided or must decide."""
    if diagnosis.review is not None:
        return reviewed(record, diagnosis, diagnosis.review)
    if diagnosis.abstained:
        why = " ".join(sentence(plain(reason)) for reason in diagnosis.reasons)
        return f"No person has decided yet, and a person must decide about {record.name}. {why}".strip()
    return (
        f"No person has reviewed {record.name}. The decision, {named(diagnosis.labels)}, was made by the "
        "program, and by its rules no person has to decide."
    )


def confidence(record: ImageRecord, diagnosis: Diagnosis) -> str:
    """How sure the decision is, and what that has meant so far."""
    order = rests_on.ranked(diagnosis)
    review = diagnosis.review
    if review is not None and review.decision.action != "approve":
        before = f" Before that the most probable option was {order[0][0]}." if order else ""
        return f"{reviewed(record, diagnosis, review)} A person's decision has no probability.{before}"
    if diagnosis.confidence is None or not order:
        return f"{decision(record, diagnosis)} How sure that is cannot be said: there are no probabilities."
    said = [f"The probability of {named(diagnosis.labels)} is {percent(diagnosis.confidence)}."]
    others = [(label, share) for label, share in order if label not in diagnosis.labels]
    if others:
        said.append(f"Next comes {others[0][0]} with {percent(others[0][1])}.")
    if diagnosis.observed is not None:
        said.append(rests_on.observed(diagnosis))
    if diagnosis.abstained:
        said.append("A person must decide.")
        said += [sentence(plain(reason)) for reason in diagnosis.reasons[:2]]
    return " ".join(filter(None, said))


def probability_of(diagnosis: Diagnosis, labels: Sequence[str]) -> str:
    """The probability of options that were asked about; empty where it is not known."""
    shares = diagnosis.probabilities or {}
    told = [f"The probability of {label} is {percent(shares[label])}." for label in labels if label in shares]
    return " ".join(told)


def alternatives(record: ImageRecord, diagnosis: Diagnosis) -> str:
    """All options, the likeliest first."""
    order = rests_on.ranked(diagnosis)
    if not order:
        return f"{decision(record, diagnosis)} There are no probabilities to rank the other options by."
    told = listed([f"{label} {percent(share)}" for label, share in order])
    if diagnosis.review and overruled(diagnosis):
        decided = reviewed(record, diagnosis, diagnosis.review)
        return f"{decided} Before that the options by probability were: {told}."
    return f"The options by probability are: {told}."


def why(record: ImageRecord, diagnosis: Diagnosis) -> str:
    """What the decision rests on."""
    said = [decision(record, diagnosis)]
    if overruled(diagnosis):
        said.append("The evidence on record, which that decision overruled or did not accept:")
    said += [
        rests_on.panel(diagnosis),
        rests_on.similar(diagnosis, 1),
        rests_on.contributions(diagnosis),
        *rests_on.unheard(diagnosis),
    ]
    own = diagnosis.generalist_answer
    if own is not None and own.labels:
        said.append(f"The generalist's own answer is {named(own.labels)}.")
    said += [rests_on.absence_sentence(one) for one in rests_on.absences(diagnosis)]
    return " ".join(filter(None, said))


def why_not(record: ImageRecord, diagnosis: Diagnosis, labels: Sequence[str], task: Task | None) -> str:
    """What speaks for and against other labels than the decision's."""
    decided = rests_on.supported(diagnosis)
    others = [label for label in labels if label not in decided]
    said = [decision(record, diagnosis)]
    if labels and not others:
        own = rests_on.contributions(diagnosis)
        return " ".join(filter(None, [*said, rests_on.panel(diagnosis), rests_on.similar(diagnosis, 1), own]))
    if not labels:
        rival = diagnosis.fusion.rival if diagnosis.fusion else ""
        order = [label for label, _ in rests_on.ranked(diagnosis) if label not in decided]
        others = [rival] if rival and rival in dict(rests_on.ranked(diagnosis)) else order[:1]
        said += [rests_on.beside(task, diagnosis)]
        said += [f"The strongest other option is {others[0]}."] if others else []
    said.append(probability_of(diagnosis, others))
    for label in others:
        supporters = [one.specialist for one in diagnosis.evidence.opinions if label in one.labels]
        total = len(diagnosis.evidence.opinions)
        if total:
            said.append(
                f"{together(supporters)} {'says' if len(supporters) == 1 else 'say'} {label}."
                if supporters
                else f"None of the {total} specialists says {label}."
            )
        if diagnosis.evidence.similar_cases:
            said.append(rests_on.labelled(diagnosis, [label]))
    held = diagnosis.fusion.counter_example if diagnosis.fusion else None
    retrieved = [set(case.labels) for case in diagnosis.evidence.similar_cases]
    if held and set(held.labels) & set(others) and not any(labels & set(others) for labels in retrieved):
        said.append(f"The closest known case of {named(held.labels)} has similarity {held.similarity:.2f}.")
    return " ".join(filter(None, said))


def provenance(record: ImageRecord, diagnosis: Diagnosis) -> str:
    """Who and what made the decision."""
    who = f"The generalist is {plain(diagnosis.generalist)}." if diagnosis.generalist else ""
    took_part = [f"{one.specialist} ({one.architecture})" for one in diagnosis.evidence.opinions]
    panel = f"{listed(took_part)} took part; the record holds their names and versions." if took_part else ""
    rule = diagnosis.fusion.rule if diagnosis.fusion else ""
    ruled = {
        "fused": "Specialists, similar cases and generalist were combined into one probability.",
        "adaptive": "The generalist is asked only where specialists and similar cases are unsure.",
        "generalist": "The generalist's word is the decision.",
    }.get(rule, "")
    program = diagnosis.versions.get("gsco", "")
    made = f"The diagnosis of {record.name} was made by a program, gsco {program}".rstrip() + "."
    return " ".join(filter(None, [made, who, ruled, panel]))


def modality(record: ImageRecord, diagnosis: Diagnosis) -> str:
    """What kind of image it is taken for, and how it compares with known ones."""
    gate = diagnosis.evidence.gate
    kind = record.task.modality if record.task else diagnosis.task
    how = ", which was chosen from the image itself" if gate.task_chosen else ""
    said = [f"The image was read as {kind}{how}."]
    if gate.nearest_similarity is not None:
        floor = (
            f", where {gate.similarity_floor:.2f} is usual at least"
            if gate.similarity_floor is not None
            else ""
        )
        said.append(
            "By the encoder that compares all kinds of images, its similarity to the nearest known image of "
            f"this kind is {gate.nearest_similarity:.2f}{floor}."
        )
    if gate.familiar is False:
        said.append("So it is unlike the known images of this kind.")
    return " ".join(said)


def report(record: ImageRecord, diagnosis: Diagnosis) -> str:
    """A short report, written by the program from the record."""
    if not diagnosis.kind.closed:
        return answer(record, diagnosis)
    findings = [
        f"Findings: {_examined(record, diagnosis)}",
        rests_on.panel(diagnosis),
        *(rests_on.absence_sentence(one) for one in rests_on.absences(diagnosis)),
        rests_on.similar(diagnosis, 3),
    ]
    impression = [f"Impression: {decision(record, diagnosis)}"]
    if not overruled(diagnosis):
        others = [pair for pair in rests_on.ranked(diagnosis) if pair[0] not in diagnosis.labels]
        impression += [f"Next comes {others[0][0]} with {percent(others[0][1])}."] if others else []
        impression.append(rests_on.observed(diagnosis))
    origin = "Written by the program from the record; nobody described the image in words."
    return "\n\n".join(" ".join(filter(None, part)) for part in (findings, impression, [origin]))


def _examined(record: ImageRecord, diagnosis: Diagnosis) -> str:
    kind = record.task.modality if record.task else diagnosis.task
    place = f"Image {record.place} was" if record.of > 1 else "The image was"
    return f"{place} read as {kind}."


def is_negative(labels: Sequence[str], task: Task | None) -> bool:
    """Whether labels say that nothing was found, so that there is nothing to be located."""
    if task is None or not labels:
        return False
    names = {name.casefold() for label in labels for name in (label, *task.aliases.get(label, ()))}
    return bool(names & NEGATIVE) or tuple(labels) == (task.negative,)


def overruled(diagnosis: Diagnosis) -> bool:
    """Whether a person decided otherwise than was proposed, or rejected it."""
    return diagnosis.review is not None and diagnosis.review.decision.action != "approve"


def _who(review: Review) -> str:
    return f"A person ({plain(review.decision.reviewer)})"
