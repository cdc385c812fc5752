"""How good answers to questions are, per case and without a judge.

Closed questions count as right or wrong; of open ones, words are counted. An answer that never came is wrong
and shares no word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from ...models.metrics.answers import Bools, Floats
from .uncertainty import Measure, mean
from .words import answer_words, same_answer

_LETTER = re.compile(r"\s*\(?([A-H])\)?\s*(?:[.:)]|$)")


def closed_right(said: str | None, accepted: Sequence[str], choices: Sequence[str] = ()) -> bool:
    """Whether a closed question was answered rightly.

    Right is an accepted answer word for word; of a question with choices also its letter, or a text that
    holds the right choice and no other; of yes and no, the first of the two that is said.
    """
    if not said or not said.strip():
        return False
    if same_answer(said, accepted):
        return True
    if choices:
        return _chosen(said, choices) in [
            place for place, one in enumerate(choices) if same_answer(one, accepted)
        ]
    words = [word for word in answer_words(said) if word in ("yes", "no")]
    return bool(words) and same_answer(words[0], accepted)


def _chosen(said: str, choices: Sequence[str]) -> int | None:
    letter = _LETTER.match(said)
    if letter and "ABCDEFGH".index(letter[1]) < len(choices):
        return "ABCDEFGH".index(letter[1])
    text = f" {' '.join(answer_words(said))} "
    held = [place for place, one in enumerate(choices) if f" {' '.join(answer_words(one))} " in text]
    return held[0] if len(held) == 1 else None


def token_f1(said: str | None, accepted: Sequence[str]) -> float:
    """F1 of the words of an answer and of the accepted answer that it is nearest to."""
    return _best(said, accepted, lambda shared, words, wanted: 2 * shared / (words + wanted))


def token_recall(said: str | None, accepted: Sequence[str]) -> float:
    """Share of an accepted answer's words that are said; the largest over the accepted ones."""
    return _best(said, accepted, lambda shared, words, wanted: shared / wanted)


def bleu_1(said: str | None, accepted: Sequence[str]) -> float:
    """BLEU-1 of an answer: the share of its words that are wanted, lowered where it is too short."""
    words = answer_words(said or "")
    references = [answer_words(answer) for answer in accepted]
    if not words or not any(references):
        return float(not words and not any(references))
    most: Counter[str] = Counter()
    for reference in references:
        most |= Counter(reference)
    precision = sum((Counter(words) & most).values()) / len(words)
    nearest = min((abs(len(one) - len(words)), len(one)) for one in references)[1]
    return precision * min(1.0, float(np.exp(1 - nearest / len(words))))


def _best(said: str | None, accepted: Sequence[str], score: Callable[[int, int, int], float]) -> float:
    words = Counter(answer_words(said or ""))
    found = 0.0
    for answer in accepted:
        wanted = Counter(answer_words(answer))
        if not wanted or not words:
            found = max(found, float(wanted == words))
        else:
            shared = sum((words & wanted).values())
            found = max(found, score(shared, words.total(), wanted.total()))
    return found


def question_measures(
    said: Sequence[str | None],
    accepted: Sequence[Sequence[str]],
    closed: Sequence[bool],
    choices: Sequence[Sequence[str]] | None = None,
) -> dict[str, Measure]:
    """Measure answers; put intervals to them with ``uncertainty.estimate``.

    Args:
        said: answer of each case; None where there was none.
        accepted: answers that each case accepts.
        closed: whether its answers are a fixed set.
        choices: those of multiple-choice questions.

    Returns:
        ``closed_accuracy`` over the closed questions; ``open_exact``, ``open_f1``, ``open_recall`` and
        ``open_bleu_1`` over the open ones; ``f1`` over all.
    """
    options = choices or [()] * len(said)
    is_closed: Bools = np.array(closed, dtype=bool)
    cases = list(zip(said, accepted, strict=True))
    right = np.array(
        [closed_right(one, good, some) for (one, good), some in zip(cases, options, strict=True)], dtype=bool
    )
    f1 = _each(cases, token_f1)
    return {
        "closed_accuracy": mean(right, is_closed),
        "open_exact": mean(_each(cases, lambda one, good: float(same_answer(one or "", good))), ~is_closed),
        "open_f1": mean(f1, ~is_closed),
        "open_recall": mean(_each(cases, token_recall), ~is_closed),
        "open_bleu_1": mean(_each(cases, bleu_1), ~is_closed),
        "f1": mean(f1),
    }


def _each(
    cases: Sequence[tuple[str | None, Sequence[str]]], score: Callable[[str | None, Sequence[str]], float]
) -> Floats:
    return np.array([score(said, accepted) for said, accepted in cases], dtype=np.float64)
