"""Holds an answer against the record: every number, name and label in it must be the record's.

It knows the sentences of ``gsco.graphs.explanation`` by their form only, and reads all values from the
``Diagnosis`` itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from gsco.case import Diagnosis

PERCENT = r"((?:over |under )?\d+%)"
MARKUP = re.compile(r"[<>{}*`|\\]|(?<!\w)_|_(?!\w)|tool_call|\[\[")


def shown(share: float) -> str:
    """A share as it must be written."""
    return "over 99%" if share >= 0.995 else "under 1%" if share < 0.005 else f"{round(100 * share)}%"


def is_plain(text: str) -> bool:
    """Whether a text is whole sentences without markup."""
    paragraphs = text.split("\n\n")
    whole = all(one[:1].isalnum() and one.endswith((".", "!", "?", "…")) for one in paragraphs)
    return whole and not MARKUP.search(text)


def faults(text: str, diagnoses: Iterable[Diagnosis], constants: Iterable[str] = ()) -> list[str]:
    """Everything in an answer that is not as it stands on record.

    Args:
        text: the answer.
        diagnoses: of the images that it may be about.
        constants: sentences that hold no fact of a case, such as the list of tasks.
    """
    diagnoses = list(diagnoses)
    for constant in sorted(constants, key=len, reverse=True):
        text = text.replace(constant, "")
    for diagnosis in diagnoses:
        for reason in (*diagnosis.reasons, diagnosis.promise or ""):
            text = text.replace(reason[:1].upper() + reason[1:], "") if reason else text
    return list(_faults(text, diagnoses))


def _faults(text: str, diagnoses: list[Diagnosis]) -> Iterator[str]:
    allowed = [list(_statements(diagnosis)) for diagnosis in diagnoses]
    everything = {statement for statements in allowed for statement in statements}
    for pattern in (
        rf"[\w-]+ ?\d* says [^.;]+? with {PERCENT}",
        rf"probability of [^.,]+? is {PERCENT}",
        rf"Next comes [^.]+? with {PERCENT}",
        r"[\w ,]+? \(similarity -?\d\.\d\d\)",
        r"All \d+ retrieved cases are [^.]+",
        r"All \d+ specialists (?:say|agree)[^.]+",
        r"Of \d+ measured answers about this sure \d+ were right",
    ):
        for found in re.finditer(pattern, text):
            said = " ".join(found[0].split())
            said = re.sub(r"^(?:The|are|closest first|and|is|case is|case|first):? ", "", said)
            if not any(said.endswith(one) for one in everything):
                yield f"not on record: {said!r}"
    values = {shown(value) for diagnosis in diagnoses for value in _shares(diagnosis)}
    yield from (f"no such share: {one}" for one in re.findall(PERCENT, text) if one not in values)
    near = {f"{value:.2f}" for diagnosis in diagnoses for value in _similarities(diagnosis)}
    yield from (
        f"no such similarity: {one}" for one in re.findall(r"(-?\d\.\d\d)\b", text) if one not in near
    )
    pulls = {f"{voice.log_odds:+.1f}" for one in diagnoses if one.fusion for voice in one.fusion.voices}
    yield from (
        f"no such share of log-odds: {one}"
        for one in re.findall(r"\(([+-]\d+\.\d)\)", text)
        if one not in pulls
    )
    yield from _wrong_labels(text, diagnoses)
    yield from _wrong_counts(text, diagnoses)
    names = {opinion.specialist for diagnosis in diagnoses for opinion in diagnosis.evidence.opinions}
    yield from (f"an internal name: {one}" for one in names if re.search(rf"\b{re.escape(one)}\b", text))


def _statements(diagnosis: Diagnosis) -> Iterator[str]:
    evidence, ranked = (
        diagnosis.evidence,
        sorted((diagnosis.probabilities or {}).items(), key=lambda p: -p[1]),
    )
    for number, opinion in enumerate(evidence.opinions, 1):
        for label in opinion.labels:
            yield f"Specialist {number} says {label} with {shown(opinion.probabilities[label])}"
    for label, share in ranked:
        yield f"probability of {label} is {shown(share)}"
    others = [(label, share) for label, share in ranked if label not in diagnosis.labels]
    for label, share in others[:1]:
        yield f"Next comes {label} with {shown(share)}"
    for case in evidence.similar_cases:
        yield f"{', '.join(case.labels)} (similarity {case.similarity:.2f})"
    labels = {case.labels for case in evidence.similar_cases}
    if len(labels) == 1:
        yield f"All {len(evidence.similar_cases)} retrieved cases are {', '.join(next(iter(labels)))}"
    votes = {opinion.labels for opinion in evidence.opinions}
    if len(votes) == 1:
        count, [vote] = len(evidence.opinions), votes
        yield f"All {count} specialists say {', '.join(vote)}"
        if vote == diagnosis.labels:
            rejected = diagnosis.review is not None and diagnosis.review.decision.action == "reject"
            what = "rejected proposal" if rejected else "decision"
            yield f"All {count} specialists agree with the {what}, {', '.join(vote)}"
    if diagnosis.observed:
        seen = diagnosis.observed
        yield f"Of {seen.n} measured answers about this sure {seen.right} were right"


def _shares(diagnosis: Diagnosis) -> Iterator[float]:
    yield from (diagnosis.probabilities or {}).values()
    yield from () if diagnosis.confidence is None else (diagnosis.confidence,)
    for opinion in diagnosis.evidence.opinions:
        yield from opinion.probabilities.values()
        yield from (value for value in (opinion.reliability, opinion.held_out) if value is not None)


def _similarities(diagnosis: Diagnosis) -> Iterator[float]:
    gate, fusion = diagnosis.evidence.gate, diagnosis.fusion
    yield from (case.similarity for case in diagnosis.evidence.similar_cases)
    yield from (value for value in (gate.nearest_similarity, gate.similarity_floor) if value is not None)
    if fusion is not None and fusion.counter_example is not None:
        yield fusion.counter_example.similarity


def _wrong_labels(text: str, diagnoses: list[Diagnosis]) -> Iterator[str]:
    """What is told as the decision must be the decision."""
    right = {", ".join(one.labels) for one in diagnoses}
    told = re.findall(
        r"(?:is diagnosed as|looks most like|The decision is|the decision,|image shows) ([\w -]+?)(?=[,.:])",
        text,
    )
    yield from (f"told as the decision: {one}" for one in told if re.split(" but | too", one)[0] not in right)


def _wrong_counts(text: str, diagnoses: list[Diagnosis]) -> Iterator[str]:
    """How many specialists or cases are told of, and who."""
    votes = [Counter(", ".join(o.labels) for o in one.evidence.opinions) for one in diagnoses]
    who = [{str(n): ", ".join(o.labels) for n, o in enumerate(one.evidence.opinions, 1)} for one in diagnoses]
    cases = [Counter(", ".join(c.labels) for c in one.evidence.similar_cases) for one in diagnoses]
    for count, label, names in re.findall(r"(\d+) says? ([\w -]+?) \(Specialists? ([\d, and]+)\)", text):
        listed = re.split(r", | and ", names)
        if not any(vote[label] == int(count) == len(listed) for vote in votes):
            yield f"no such vote: {count} {label} ({names})"
        if not any(all(said.get(name) == label for name in listed) for said in who):
            yield f"not said by these: {label} ({names})"
    for total, rest in re.findall(r"Of the (\d+) retrieved cases ([^.]+)\.", text):
        found = {
            label: int(count) for count, label in re.findall(r"(\d+) (?:is|are) ([\w -]+?)(?=,| and|$)", rest)
        }
        if not any(case.total() == int(total) and dict(case) == found for case in cases):
            yield f"no such cases: {total}, {rest}"
