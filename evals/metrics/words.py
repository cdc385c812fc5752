"""Texts as metrics see them."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    "none": "0",
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}
_WORD = re.compile(r"[^\W_]+(?:[.'/-][^\W_]+)*", re.UNICODE)
_REPORT = re.compile(r"[^\W_]+(?:['/-][^\W_]+)*|\.", re.UNICODE)


def answer_words(text: str) -> list[str]:
    """Split an answer: lower case, no punctuation, no articles, small numbers as digits."""
    words: list[str] = _WORD.findall(text.lower())
    return [_NUMBERS.get(word, word) for word in words if word not in _ARTICLES]


def same_answer(said: str, accepted: Sequence[str]) -> bool:
    """Whether an answer is one of the accepted ones, word for word."""
    words = answer_words(said)
    return any(words == answer_words(answer) for answer in accepted)


def report_words(text: str) -> list[str]:
    """Split a report: lower case, words and full stops; other punctuation is left out."""
    return _REPORT.findall(text.lower())
