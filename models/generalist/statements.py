"""Statements about a case: written from its evidence, and read from an answer to be held against it.

The bundled generalist is trained to answer in these forms; of any generalist's words the checks here read
the shares of options, what specialists named, and similar cases. What is worded otherwise is not checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...case import Diagnosis, Missing, Opinion, SimilarCase

HEADINGS = ("Decision: ", "Probabilities: ", "Specialists: ", "Closest known case: ")
"""What stands before the parts of ``on_record``."""

_PERCENT = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?) ?%")
_SIMILARITY = re.compile(r"similarity(?: of| is|:)? (\d+(?:\.\d+)?)", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = r"(?<![\w-]){}(?![\w-])"


@dataclass(frozen=True)
class Finished:
    """What is known of a case when it is asked about."""

    options: tuple[str, ...]
    outcomes: tuple[Opinion | Missing, ...] = ()
    similar: tuple[SimilarCase, ...] = ()
    probabilities: Mapping[str, float] | None = None
    decided: str = ""
    """What was decided, and whether by a person; empty where nothing was."""

    @classmethod
    def of(cls, diagnosis: Diagnosis) -> Finished:
        """What a diagnosis rests on."""
        evidence = diagnosis.evidence
        lost = (one for one in evidence.missing if one.source.startswith("specialist:"))
        values = diagnosis.probabilities or {}
        return cls(
            options=tuple(values) or named((*evidence.opinions,), evidence.similar_cases),
            outcomes=(*evidence.opinions, *lost),
            similar=evidence.similar_cases,
            probabilities=values or None,
            decided=_decided(diagnosis),
        )

    @property
    def ranked(self) -> list[str]:
        """Options by probability, the likeliest first."""
        values = self.probabilities or {}
        return sorted(values, key=lambda label: (-values[label], label))

    @property
    def opinions(self) -> tuple[Opinion, ...]:
        """Of the specialists that answered."""
        return tuple(one for one in self.outcomes if isinstance(one, Opinion))


def named(opinions: Sequence[Opinion], similar: Sequence[SimilarCase]) -> tuple[str, ...]:
    """The options that evidence speaks of."""
    labels = [label for one in opinions for label in (*one.probabilities, *one.labels)]
    return tuple(dict.fromkeys([*labels, *(label for one in similar for label in one.labels)]))


def specialists(case: Finished) -> str:
    """What the specialists said."""
    return "; ".join(map(_said, case.outcomes)) + "." if case.outcomes else "No specialist was asked."


def closest(similar: Sequence[SimilarCase]) -> str:
    """The most similar case."""
    if not similar:
        return "No similar case was retrieved."
    return f"Case 1: {', '.join(similar[0].labels)}, similarity {similar[0].similarity:.2f}."


def shares(case: Finished, most: int | None = None) -> str:
    """How likely the options are, the likeliest first; empty where that is not known."""
    values = case.probabilities or {}
    ranked = [f"{label} {values[label]:.0%}" for label in case.ranked[:most]]
    return f"{', then '.join(ranked)}." if ranked else ""


def supporters(outcomes: Iterable[Opinion | Missing], option: str) -> str:
    """Who named an option."""
    names = [one.specialist for one in outcomes if isinstance(one, Opinion) and option in one.labels]
    return f"Specialists for {option}: {', '.join(names)}." if names else f"No specialist named {option}."


def on_record(case: Finished | None) -> str:
    """All that is known of a case, for a reader."""
    if case is None:
        return "There is no evidence in this conversation to say it from."
    parts = (case.decided, shares(case), specialists(case), closest(case.similar))
    told = zip(HEADINGS, parts, strict=True)
    return "\n".join(f"{heading}{statement}" for heading, statement in told if statement)


def grounded(text: str, cases: Sequence[Finished], said: str = "") -> tuple[str, tuple[str, ...]]:
    """Hold an answer against the record: sentences that state what it does not hold give way to it.

    Args:
        text: the generalist's words.
        cases: everything on record that it may speak of, the case that is spoken of last.
        said: what else it read; percentages that stand there may be repeated.

    Returns:
        The words that may stand, with the record below where any had to go; and the sentences that went.
    """
    repeated = {float(number) for number in _PERCENT.findall(said)}
    sentences = [one for one in _SENTENCE.split(text) if one.strip()]
    unfounded = tuple(one for one in sentences if not _held(one, cases, repeated))
    if not unfounded:
        return text, ()
    kept = " ".join(one for one in sentences if one not in unfounded)
    return "\n\n".join(filter(None, [kept, on_record(cases[-1] if cases else None)])), unfounded


def _held(sentence: str, cases: Sequence[Finished], repeated: set[float]) -> bool:
    numbers = [_number(found) for found in _PERCENT.findall(sentence)]
    known = {100 * value for case in cases for _, value in _values(case)} | repeated
    if not all(any(map(number.fits, known)) for number in numbers):
        return False
    if not cases:
        return True
    checks = (_shares_hold, _opinions_hold, _similar_hold, _absence_holds)
    return all(check(sentence, cases) for check in checks)


def _shares_hold(sentence: str, cases: Sequence[Finished]) -> bool:
    """Whether every percentage that follows an option is one of its own."""
    held = [(option.casefold(), 100 * value) for case in cases for option, value in _values(case)]
    pattern = rf"{_any(_options(cases))}\W{{0,2}}(?:has|at|with|is|=)?\W{{0,2}}(\d+(?:\.\d+)?) ?%"
    return all(
        any(option == label.casefold() and _number(share).fits(value) for option, value in held)
        for label, share in re.findall(pattern, sentence, re.IGNORECASE)
    )


def _opinions_hold(sentence: str, cases: Sequence[Finished]) -> bool:
    """Whether every option that follows a specialist's name is what it named, with its own share."""
    opinions = [one for case in cases for one in case.opinions]
    if not opinions:
        return True
    who, option = _any(dict.fromkeys(one.specialist for one in opinions)), _any(_options(cases))
    told = re.findall(
        rf"{who}\W{{0,3}}(?:says?|said|named|predicts|sees)?\W{{0,3}}{option}"
        rf"(?:\W{{0,2}}(?:has|at|with|is|=)?\W{{0,2}}{_PERCENT.pattern})?",
        sentence, re.IGNORECASE,
    )  # fmt: skip
    listed = re.findall(rf"specialists for {option}: ([^.]+)\.?", sentence, re.IGNORECASE)
    told += [(name.strip(), label, "") for label, names in listed for name in names.split(",")]
    return all(any(_named(one, name, label, share) for one in opinions) for name, label, share in told)


def _named(opinion: Opinion, specialist: str, label: str, share: str) -> bool:
    """Whether an opinion is the specialist's own and names a label, with that share unless it is empty."""
    named = {one.casefold(): 100 * opinion.probabilities.get(one, 0.0) for one in opinion.labels}
    return (
        specialist.casefold() == opinion.specialist.casefold()
        and label.casefold() in named
        and (not share or _number(share).fits(named[label.casefold()]))
    )


def _similar_hold(sentence: str, cases: Sequence[Finished]) -> bool:
    """Whether similar cases are told of as they are; a similarity behind a case's number must be its own."""
    ranked = [(rank, known) for case in cases for rank, known in enumerate(case.similar, start=1)]
    values = [known.similarity for _, known in ranked]
    if not all(any(map(_number(text).fits, values)) for text in _SIMILARITY.findall(sentence)):
        return False
    told = re.findall(
        rf"case (\d+)(?: is|:)? {_any(_options(cases))}(?:\W{{0,3}}{_SIMILARITY.pattern})?",
        sentence, re.IGNORECASE,
    )  # fmt: skip
    return all(
        any(
            int(number) == rank
            and label.casefold() in map(str.casefold, known.labels)
            and (not similarity or _number(similarity).fits(known.similarity))
            for rank, known in ranked
        )
        for number, label, similarity in told
    )


def _absence_holds(sentence: str, cases: Sequence[Finished]) -> bool:
    """Whether what is said to be missing is."""
    lowered = sentence.casefold()
    if "no specialist was asked" in lowered and all(case.outcomes for case in cases):
        return False
    if "no similar case was" in lowered and all(case.similar for case in cases):
        return False
    nobody = re.findall(rf"no specialist named {_any(_options(cases))}", sentence, re.IGNORECASE)
    said = [{label.casefold() for one in case.opinions for label in one.labels} for case in cases]
    return all(any(label.casefold() not in labels for labels in said) for label in nobody)


@dataclass(frozen=True)
class _Number:
    """A number as it was written: it stands for all that round to it at its last digit."""

    value: float
    step: float

    def fits(self, known: float) -> bool:
        return abs(known - self.value) <= 0.5 * self.step + 1e-6


def _number(text: str) -> _Number:
    return _Number(float(text), 10.0 ** -len(text.partition(".")[2]))


def _values(case: Finished) -> Iterator[tuple[str, float]]:
    yield from (case.probabilities or {}).items()
    for opinion in case.opinions:
        yield from opinion.probabilities.items()
        if opinion.reliability is not None:
            yield "", opinion.reliability


def _options(cases: Sequence[Finished]) -> list[str]:
    return list(dict.fromkeys(option for case in cases for option in case.options))


def _any(names: Iterable[str]) -> str:
    """A group that matches one of the names as a whole, the longest first; nothing where there are none."""
    longest = sorted(names, key=len, reverse=True)
    return _WORD.format(f"({'|'.join(map(re.escape, longest))})") if longest else r"((?!))"


def _decided(diagnosis: Diagnosis) -> str:
    review = diagnosis.review
    who = {
        "approve": ", approved by a person",
        "edit": ", as a person decided",
        "reject": ", rejected by a person",
    }
    said = ", ".join(diagnosis.labels) or ("none of the options" if diagnosis.kind.closed else "")
    return f"{said}{who[review.decision.action] if review else ''}." if said else ""


def _said(outcome: Opinion | Missing) -> str:
    if isinstance(outcome, Missing):
        return f"{outcome.source.removeprefix('specialist:')}: no opinion"
    if not outcome.probabilities or not outcome.labels:
        return f"{outcome.specialist}: {', '.join(outcome.labels) or 'none of the options'}"
    told = (f"{label} {outcome.probabilities[label]:.0%}" for label in outcome.labels)
    return f"{outcome.specialist}: {', '.join(told)}"
