"""Notes beside a generalist's own words, where they name another decision than the record's or a person's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ...case import Diagnosis, Task
from .question import labels_in
from .record import ImageRecord
from .sentences import named

_SENTENCE = re.compile(r"(?<=[.!?。！？;])\s+|\n+|(?<=[。！？])")
_DENIED = re.compile(
    r"\b(no|not|without|neither|nor|never|absen\w+|negative for|free of|rul\w+ out|exclud\w+|unlikely"
    r"|against|rather than|instead of|less likely|n't|isn't|kein\w*|nicht|sin|descart\w*|pas|aucun\w*)\b"
    r"|不是|没有|排除"
)
_DECIDES = re.compile(
    r"\b(diagnos\w+|decision|conclu\w+|impression|answer|final|most likely|consistent with|shows?|this is"
    r"|it is|indicates?|suggests?|represents?|confirms?|i (?:would )?say)\b"
)
_OTHERS = re.compile(
    r"\b(specialists?|cases?|classifiers?|proposed|alternativ\w+|differential|could|might|may|if)\b"
)


def contradictions(
    text: str, records: Sequence[ImageRecord], diagnoses: Sequence[Diagnosis]
) -> Iterator[str]:
    """Say where a generalist's words name another decision than the one on record.

    Words that only mention a label, deny it or report what others said are no decision.

    Args:
        text: the generalist's answer, which stands as it is.
        records: of the conversation's images.
        diagnoses: of this turn; without any the latest image's decision is the one that is spoken of.
    """
    spoken_of = list(diagnoses) or [one.diagnosis for one in records if one.diagnosis][-1:]
    cards = {one.diagnosis.task: one.task for one in records if one.diagnosis and one.task}
    rejected = [one for one in spoken_of if one.review and one.review.decision.action == "reject"]
    if rejected and diagnoses:
        yield "A person rejected this diagnosis."
    closed = [one for one in spoken_of if one.kind.closed and one.task in cards]
    right = {label for one in closed if one not in rejected for label in one.labels}
    for one in closed:
        task = cards[one.task]
        wrong = [label for label in decided_in(text, task) if label not in right]
        if wrong and one in rejected:
            proposed = one.review.proposed if one.review else ()
            yield f"The words name {named(wrong)}; a person rejected {named(proposed)}."
        elif wrong:
            who = "a person decided" if one.review else "the decision is"
            yield f"The words name {named(wrong)}; {who} {named(one.labels)}."


def decided_in(text: str, task: Task) -> tuple[str, ...]:
    """The options that a text states as its own decision.

    Where a text names one option only and does not deny it, that is its decision. Of several options it is
    the one in a sentence that decides, such as ``The diagnosis is …``.
    """
    affirmed = [
        (label, sentence)
        for sentence in _SENTENCE.split(text)
        for label in labels_in(sentence, task)
        if not _denied(sentence, label, task)
    ]
    own = [pair for pair in affirmed if not _OTHERS.search(pair[1].casefold())]
    labels = tuple(dict.fromkeys(label for label, _ in own))
    if len(labels) < 2:
        return labels
    return tuple(dict.fromkeys(label for label, sentence in own if _DECIDES.search(sentence.casefold())))


def _denied(sentence: str, label: str, task: Task) -> bool:
    """Whether what stands before a label, in its part of the sentence, denies it."""
    lowered = sentence.casefold()
    spellings = (label, *task.aliases.get(label, ()))
    places = [lowered.find(word.casefold()) for word in spellings]
    place = min((one for one in places if one >= 0), default=-1)
    if place < 0:
        return bool(_DENIED.search(lowered))
    before = re.split(r"[,;:]|\bbut\b|\bhowever\b", lowered[:place])[-1]
    after = lowered[place : place + 60]
    return bool(
        _DENIED.search(before) or re.search(r"\b(is|are|was) (not|unlikely|excluded|ruled out)\b", after)
    )
