"""The text model that tells the topic of a question from its words, their letters and their meanings."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations, pairwise
from typing import Any, cast

WHOLE = 3
"""A beginning of at most so many letters must be a whole word."""
LONG = 5
"""A word of at least so many letters may be misspelt."""
ALIKE = 0.85
"""Words that are as alike as this are taken for one."""
LETTERS, SIGNS = (3, 3), (1, 3)
"""So many neighbouring letters of a word are a feature, and so many Chinese characters."""

_CHINESE = re.compile(r"[\u3400-\u9fff]")
_TOKEN = re.compile(r"\{\w+\}|\w+|[^\w\s]")
_BEGINNING = re.compile(rf"(?<!\w)\w|{_CHINESE.pattern}")
_NAME = re.compile(r"\{\w+\}")


class TopicModel:
    """A linear support vector machine, fitted on phrasings in less than a second.

    Args:
        phrasings: by topic.
        meanings: beginnings of words by what they mean, in any language (Chinese: parts of words).
    """

    def __init__(self, phrasings: Mapping[str, Sequence[str]], meanings: Mapping[str, Sequence[str]]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.svm import LinearSVC

        found: dict[str, list[str]] = defaultdict(list)
        for meaning, beginnings in meanings.items():
            for beginning in {plain(one) for one in beginnings}:
                found[beginning].append(meaning)
        self._meanings = dict(found)
        self._longest = max(map(len, self._meanings))
        pairs = [(plain(text), topic) for topic, texts in phrasings.items() for text in texts]
        counted = Counter(word for text, _ in pairs for word in set(text.split()))
        self._common = {word for word, count in counted.items() if count > 1}
        self._known: dict[str, list[str]] = defaultdict(list)
        for word in sorted(word for word in counted if len(word) >= LONG):
            self._known[word[0]].append(word)
        # scikit-learn takes a function as analyzer; its stubs know the names of its own only.
        self._features = TfidfVectorizer(analyzer=cast(Any, self._parts), min_df=2, sublinear_tf=True)
        self._machine = LinearSVC(class_weight="balanced", random_state=0)
        self._machine.fit(
            self._features.fit_transform([text for text, _ in pairs]), [topic for _, topic in pairs]
        )

    def scores(self, text: str) -> dict[str, float]:
        """How far a text lies on a topic's side, by topic: above zero it does."""
        words = " ".join(self._spelt(word) for word in plain(text).split())
        distances = self._machine.decision_function(self._features.transform([words]))[0]
        return dict(zip(self._machine.classes_, distances, strict=True))

    def _spelt(self, word: str) -> str:
        """A word as the phrasings spell it, if one of theirs is nearly the same."""
        known = self._known.get(word[0], [])
        if len(word) < LONG or word in known or self._meant(word):
            return word
        alike = [one for one in known if abs(len(one) - len(word)) <= 1]
        return next(iter(get_close_matches(word, alike, 1, ALIKE)), word)

    def _parts(self, text: str) -> list[str]:
        """Letters, words, neighbouring words, meanings and pairs of these."""
        words = _TOKEN.findall(text)
        meant = self._meant(text) + _NAME.findall(text)
        foreign = [one for one in words if self._foreign(one)]
        return [
            *(part for word in words for part in _letters(word)),
            *(f"word {word}" for word in words),
            *(f"words {first} {second}" for first, second in pairwise(words)),
            *("foreign" for _ in foreign),
            *(f"meaning {meaning}" for meaning in meant),
            *(f"meanings {first} {second}" for first, second in combinations(sorted(set(meant)), 2)),
        ]

    def _foreign(self, word: str) -> bool:
        """Whether a word is in no other phrasing and has no meaning: those of the record are in many."""
        return word.isalpha() and len(word) > WHOLE and word not in self._common and not self._meant(word)

    def _meant(self, text: str) -> list[str]:
        """What the words of a text mean."""
        found = []
        for match in _BEGINNING.finditer(text):
            start = match.start()
            least = 1 if _CHINESE.match(match[0]) else WHOLE + 1
            for end in range(start + 1, min(start + self._longest, len(text)) + 1):
                meant = self._meanings.get(text[start:end])
                if meant and (end - start >= least or not text[end : end + 1].isalnum()):
                    found += meant
        return found


def folded(text: str) -> str:
    """A text in small letters without accents, as people type."""
    text = text.casefold().replace("ù", "uh").replace("’", "'")  # French "où" is not "ou"
    text = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    text = re.sub(r"(?<!q)ue", "u", text.replace("ae", "a").replace("oe", "o"))  # German "ae" is "ä"
    return re.sub(r"(.)\1{2,}", r"\1\1", text)


def plain(text: str) -> str:
    """A folded text without marks."""
    return " ".join(re.sub(r"[?!¿¡.,;:。、“”\"()~-]", " ", folded(text)).split())


def _letters(word: str) -> tuple[str, ...]:
    least, most = SIGNS if _CHINESE.match(word) else LETTERS
    edged = f" {word} "
    return tuple(
        edged[start : start + length]
        for length in range(least, most + 1)
        for start in range(len(edged) - length + 1)
    )
