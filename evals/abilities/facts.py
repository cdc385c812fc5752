"""Facts that an answer states, read from its text, and whether the evidence says the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ...case import Diagnosis, Missing, Opinion
from ...models.generalist.statements import HEADINGS

Facts = frozenset[tuple[str, ...]]

_OPINION = re.compile(r"([^\s:;]+): ([^:;%]+?) (\d+)%")
_NO_OPINION = re.compile(r"([^\s:;]+): no opinion")
_CASE = re.compile(r"[Cc]ase (\d+): ([^:;]+?), similarity ([\d.]*\d)")
_SHARE = re.compile(r"(?:^|[.,;] |then )(?:then )?([^.,;:%]+?) (?:has )?(\d+)%", re.MULTILINE)
_FOR = re.compile(r"[Ss]pecialists for ([^:]+): ([^.]+)\.")
_NOBODY = re.compile(r"[Nn]o specialist named ([^.]+)\.")


def stated(question: str, text: str) -> Facts:
    """Facts in an answer to one of ``QUESTIONS``."""
    for heading in HEADINGS:
        text = text.replace(heading, "")
    return frozenset(_STATED[question](text))


def known(question: str, diagnosis: Diagnosis, option: str = "") -> Facts:
    """The facts that a full answer states, from the evidence.

    Args:
        question: name of the question.
        diagnosis: the finished case.
        option: that ``why_not`` asks about.
    """
    return frozenset(_KNOWN[question](diagnosis, option))


def held(question: str, diagnosis: Diagnosis) -> Facts:
    """All facts of a kind that the evidence holds, whether or not a full answer needs them."""
    values = diagnosis.probabilities or {}
    if question == "closest":
        similar = enumerate(diagnosis.evidence.similar_cases, start=1)
        return frozenset((str(rank), ", ".join(one.labels), f"{one.similarity:.2f}") for rank, one in similar)
    if question == "specialists":
        return known(question, diagnosis)
    shares = {(label, f"{100 * value:.0f}") for label, value in values.items()}
    reasons = {fact for option in values for fact in _known_reasons(diagnosis, option)}
    return frozenset(shares | reasons if question == "why_not" else shares)


def ranked(probabilities: Mapping[str, float]) -> list[str]:
    """Options, the likeliest first."""
    return sorted(probabilities, key=lambda label: (-probabilities[label], label))


def _opinions(text: str) -> set[tuple[str, ...]]:
    found = {(name, label, number) for name, label, number in _OPINION.findall(text)}
    return found | {(name, "no opinion") for name in _NO_OPINION.findall(text)}


def _shares(text: str) -> set[tuple[str, ...]]:
    return {(label.strip(), number) for label, number in _SHARE.findall(text)}


def _reasons(text: str) -> set[tuple[str, ...]]:
    found = {("for", option, name) for option, names in _FOR.findall(text) for name in names.split(", ")}
    found |= {("nobody for", option) for option in _NOBODY.findall(text)}
    return found | _shares(text.split(" Specialists for ")[0].split(" No specialist")[0])


def _known_opinions(diagnosis: Diagnosis, _: str) -> set[tuple[str, ...]]:
    evidence = diagnosis.evidence
    found = {_fact(opinion) for opinion in evidence.opinions}
    return found | {_lost(missing) for missing in evidence.missing if missing.source.startswith("specialist")}


def _fact(opinion: Opinion) -> tuple[str, ...]:
    label = opinion.labels[0]
    return opinion.specialist, label, f"{100 * opinion.probabilities[label]:.0f}"


def _lost(missing: Missing) -> tuple[str, ...]:
    return missing.source.removeprefix("specialist:"), "no opinion"


def _known_closest(diagnosis: Diagnosis, _: str) -> set[tuple[str, ...]]:
    (first, *_rest) = diagnosis.evidence.similar_cases
    return {("1", ", ".join(first.labels), f"{first.similarity:.2f}")}


def _known_shares(diagnosis: Diagnosis, _: str) -> set[tuple[str, ...]]:
    values = diagnosis.probabilities or {}
    return {(label, f"{100 * values[label]:.0f}") for label in ranked(values)[:2]}


def _known_reasons(diagnosis: Diagnosis, option: str) -> set[tuple[str, ...]]:
    values = diagnosis.probabilities or {}
    names = [said.specialist for said in diagnosis.evidence.opinions if option in said.labels]
    who = {("for", option, name) for name in names} or {("nobody for", option)}
    return who | {(label, f"{100 * values[label]:.0f}") for label in (option, ranked(values)[0])}


_STATED: Mapping[str, Callable[[str], set[tuple[str, ...]]]] = {
    "specialists": _opinions,
    "closest": lambda text: set(_CASE.findall(text)),
    "sure": _shares,
    "why_not": _reasons,
}
_KNOWN: Mapping[str, Callable[[Diagnosis, str], set[tuple[str, ...]]]] = {
    "specialists": _known_opinions,
    "closest": _known_closest,
    "sure": _known_shares,
    "why_not": _known_reasons,
}
QUESTIONS: Mapping[str, str] = {
    "specialists": "What did the specialists say?",
    "closest": "Which similar case was closest?",
    "sure": "How sure are you?",
    "why_not": "Why not {option}?",
}
