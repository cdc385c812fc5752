"""From scores or text to one of the options; pure functions, and never a second model's opinion."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal

from ...case import Answer
from ...errors import AnswerUnparsed
from .prompts import label_text

OPINION_MASS = 0.05
"""Least share of all that a generalist might have answered that must fall on the options. Below it the
model answers in other words or another form; its preference among the options is then that of a model which
wants none of them, however confident it looks once it is normalised, and counts as no opinion."""
_NO_ALIASES: Mapping[str, tuple[str, ...]] = {}
_NOT_WORD = re.compile(r"[\W_]+")
_NEGATIONS = frozenset(
    {"no", "not", "non", "without", "nor", "neither", "never", "none", "negative", "absent"}
    | {"absence", "excluded", "unlikely", "cannot", "t"}
)


def distribution(options: Sequence[str], log_probabilities: Sequence[float]) -> dict[str, float]:
    """Normalise log-probabilities over the options.

    Raises:
        AnswerUnparsed: a score is NaN, or no option has any probability.
    """
    best = max(log_probabilities)
    if any(math.isnan(value) for value in log_probabilities) or best in (math.inf, -math.inf):
        raise AnswerUnparsed("the generalist's scores are not numbers; its weights or precision are broken")
    weights = [math.exp(value - best) for value in log_probabilities]
    total = math.fsum(weights)
    return {option: weight / total for option, weight in zip(options, weights, strict=True)}


def answer_from_scores(
    options: Sequence[str], log_probabilities: Sequence[float], shared: float | None = 0.0
) -> Answer:
    """The most probable option, with the distribution; of equals the first.

    Args:
        options: in the order of their scores.
        log_probabilities: of each option.
        shared: log-probability of what all options begin with, if it is not in the scores; None: unknown.

    Raises:
        AnswerUnparsed: see ``distribution``.
    """
    probabilities = distribution(options, log_probabilities)
    best = max(options, key=probabilities.__getitem__)
    mass = None
    if shared is not None:
        mass = min(1.0, math.fsum(math.exp(value + shared) for value in log_probabilities))
    return Answer(labels=(best,), probabilities=probabilities, text=best, parse="probabilities", mass=mass)


def is_opinion(answer: Answer) -> bool:
    """Whether an answer may count in a decision: it was read from text, or enough of it lay on the options.

    Example:
        >>> is_opinion(Answer(labels=("normal",), probabilities={"normal": 1.0, "tumor": 0.0}, mass=1e-10))
        False
    """
    return answer.mass is None or answer.mass >= OPINION_MASS


def no_opinion(answer: Answer) -> str:
    """Why an answer counts as no opinion, for the record; empty where it counts."""
    if is_opinion(answer):
        return ""
    return (
        f"the generalist gives no opinion: {answer.mass:.2g} of what it might say lies on the options, and "
        f"at least {OPINION_MASS:g} must; it answers in other words or another form"
    )


def match_option(
    text: str, options: Sequence[str], aliases: Mapping[str, tuple[str, ...]] = _NO_ALIASES
) -> tuple[str, Literal["exact", "alias"]]:
    """Find the one option that a text means.

    Tried in this order, each time over all options: the text is the option, letter for letter; it is
    the option but for case, accents and punctuation (both ``exact``); it is an alias of it; exactly
    one option, by its name or an alias, stands in the text as whole words (both ``alias``). A name
    inside a longer one that matched does not count (*no tumor* is not *tumor*), and a text with a
    negation outside the matched names means nothing that can be read off so simply.

    Raises:
        AnswerUnparsed: nothing matches, or more than one option does.
    """
    stripped = text.strip().strip("'\"`*. ")
    for option in options:
        if stripped in (option, label_text(option)):
            return option, "exact"
    folded = _fold(text)
    same = [option for option in options if _fold(option) == folded]
    if len(same) == 1 and folded:
        return same[0], "exact"
    by_alias = [option for option in options if folded in map(_fold, aliases.get(option, ()))]
    if len(by_alias) == 1 and folded:
        return by_alias[0], "alias"
    named = _named(folded, options, aliases)
    if len(named) == 1:
        return named[0], "alias"
    count = "more than one" if named else "none"
    raise AnswerUnparsed(
        f"the generalist's answer ({len(text)} characters) names {count} of the "
        f"{len(options)} options; add the wording that it uses to the task's aliases"
    )


def answer_from_text(
    text: str, options: Sequence[str], aliases: Mapping[str, tuple[str, ...]] = _NO_ALIASES
) -> Answer:
    """The option that a text means, without probabilities.

    Raises:
        AnswerUnparsed: see ``match_option``.
    """
    option, how = match_option(text, options, aliases)
    return Answer(labels=(option,), probabilities=None, text=text, parse=how)


def _fold(text: str) -> str:
    """Lower-case words without accents and punctuation, one space between them."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return _NOT_WORD.sub(" ", "".join(c for c in plain if not unicodedata.combining(c))).strip()


def _named(folded: str, options: Sequence[str], aliases: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Options whose name or alias stands in the text as whole words, longest names first."""
    owners: dict[str, set[str]] = {}
    for option in options:
        for name in (option, *aliases.get(option, ())):
            owners.setdefault(_fold(name), set()).add(option)
    found: set[str] = set()
    rest = f" {folded} "
    for name in sorted(owners, key=len, reverse=True):
        if name and f" {name} " in rest:
            rest = rest.replace(f" {name} ", " \0 ")
            found |= owners[name]
    return [] if _NEGATIONS.intersection(rest.split()) else [option for option in options if option in found]
