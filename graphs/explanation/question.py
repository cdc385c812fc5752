"""What a question about a case asks: its topic, and the labels, specialists and images that it names."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ...case import Task

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

PHRASINGS = Path(__file__).with_name("phrasings.toml")
LEAST = 0.30
"""A topic that is less probable than this is not taken: the question counts as ``Topic.OTHER``."""
KEYWORD_WEIGHT = 2.0
WHOLE = 3
"""A keyword of at most so many letters must be a whole word."""
LONG = 6
"""A word of at least so many letters may be misspelt."""
ALIKE = 0.85
"""Words that are as alike as this are taken for one."""
LONGEST = 400
"""So many characters of a question are read; a topic stands in few words."""

_CHINESE = re.compile(r"[\u3400-\u9fff]")
_COUNT = re.compile(
    r"\b(\d{1,2})\b|\b(two|three|four|five|zwei|drei|vier|fünf|dos|tres|cuatro|cinco|deux|trois|quatre|cinq)\b"
)
_NUMBERS = {
    2: "two zwei dos deux",
    3: "three drei tres trois",
    4: "four vier cuatro quatre",
    5: "five fünf cinco cinq",
}
_NUMBERED = re.compile(
    r"\b(?:specialist|spezialist(?:in)?|especialista|spécialiste|expert[eo]?)\s*(?:no\.?|nr\.?|#)?\s*(\d{1,2})\b"
    r"|专家\s*(\d{1,2})",
    re.IGNORECASE,
)
_IMAGE_ID = re.compile(r"img-[0-9a-f]{6,64}")


class Topic(StrEnum):
    """What can be asked about a case."""

    DECISION = "decision"
    CONFIDENCE = "confidence"
    ALTERNATIVES = "alternatives"
    WHY = "why"
    WHY_NOT = "why_not"
    SPECIALISTS = "specialists"
    DISAGREEMENT = "disagreement"
    SIMILAR = "similar"
    COUNTER_EXAMPLE = "counter_example"
    LOCATION = "location"
    REVIEW = "review"
    REPORT = "report"
    MODALITY = "modality"
    ACCURACY = "accuracy"
    PROVENANCE = "provenance"
    COMPARE = "compare"
    CAPABILITIES = "capabilities"
    GREETING = "greeting"
    THANKS = "thanks"
    OTHER = "other"

    @property
    def of_record(self) -> bool:
        """Whether the answer stands in the record of an image."""
        return self not in _WITHOUT_RECORD


_WITHOUT_RECORD = frozenset({Topic.CAPABILITIES, Topic.GREETING, Topic.THANKS, Topic.OTHER})


@dataclass(frozen=True)
class UserQuestion:
    """A question as it was understood."""

    text: str
    topic: Topic
    specialists: tuple[str, ...] = ()
    """Names of specialists in it."""
    places: tuple[int | str, ...] = ()
    """Places of images in it, from 1, or ``last``."""
    images: tuple[str, ...] = ()
    """Ids of images in it."""
    everything: bool = False
    """Whether it is about both, or all, of the images."""
    count: int | None = None
    """How many of something it wants to know."""

    @property
    def asks(self) -> bool:
        """Whether it is put as a question."""
        return "?" in self.text or "？" in self.text

    def labels(self, task: Task) -> tuple[str, ...]:
        """The options of a task that it names, in its own order, by their names, aliases or translations."""
        words = _spellings(task)
        return tuple(dict.fromkeys(words[found] for found in _found(self.text, words)))


def understand(text: str, tasks: Iterable[Task] = (), specialists: Iterable[str] = ()) -> UserQuestion:
    """Read a question in English, German, Spanish, French or Chinese.

    Args:
        text: the user's words.
        tasks: whose options may be named.
        specialists: names that may be named.

    Example:
        >>> understand("How sure are you?").topic
        <Topic.CONFIDENCE: 'confidence'>
    """
    tasks = tuple(tasks)
    text = _NUMBERED.sub(lambda found: f" Specialist {found[1] or found[2]} ", _spelt(text[-LONGEST:], tasks))
    options = {word: "label" for task in tasks for word in _spellings(task)}
    names = {name.casefold(): name for name in specialists}
    places = {word: place for place, words in _vocabulary()["places"].items() for word in words}
    named = _found(text, names)
    placed = [places[word] for word in _found(text, places)]
    masked = _masked(text, (options, "{label}"), (names, "{specialist}"), (places, "{place}"))
    return UserQuestion(
        text=text,
        topic=_topic(masked, of_specialist=bool(named), several="all" in placed),
        specialists=tuple(names[word] for word in named),
        places=tuple(int(place) if place.isdigit() else place for place in placed if place != "all"),
        images=tuple(_IMAGE_ID.findall(text)),
        everything="all" in placed,
        count=_count(text),
    )


def _spelt(text: str, tasks: Sequence[Task]) -> str:
    """A text in which a long word that nearly is the name of an option is that name."""
    words = sorted(
        {word for task in tasks for spelling in _spellings(task) for word in spelling.split()}, key=len
    )
    long = [word for word in words if len(word) >= LONG]

    def near(found: re.Match[str]) -> str:
        word = found[0].casefold()
        alike = [one for one in long if one[0] == word[0] and abs(len(one) - len(word)) <= 1]
        return found[0] if word in words else next(iter(get_close_matches(word, alike, 1, ALIKE)), found[0])

    return re.sub(rf"[^\W\d_]{{{LONG},}}", near, text)


def labels_in(text: str, task: Task) -> tuple[str, ...]:
    """The options of a task that a text names; see ``UserQuestion.labels``."""
    words = _spellings(task)
    return tuple(dict.fromkeys(words[found] for found in _found(text, words)))


def _topic(masked: str, *, of_specialist: bool, several: bool) -> Topic:
    if not any(character.isalnum() for character in masked):
        return Topic.DECISION if not masked.strip(" ?？!.") else Topic.OTHER
    if rest := _after_courtesies(masked):
        topic = _topic(rest, of_specialist=of_specialist, several=several)
        if topic is not Topic.OTHER or "?" in rest or "？" in rest:
            return topic
    model = _model()
    shares = dict(zip(model.classes_, model.predict_proba([masked])[0], strict=True))
    if "?" in masked or "？" in masked:
        del shares[Topic.THANKS]
    if masked.count("{place}") == 1 and not several:
        del shares[Topic.COMPARE]  # one image is asked about
    best = max(shares, key=lambda topic: shares[topic])
    if shares[best] < LEAST or best == Topic.OTHER:
        # A question that names a specialist is about it.
        return Topic.SPECIALISTS if of_specialist else Topic.OTHER
    return Topic(best)


def _after_courtesies(text: str) -> str:
    """What follows a greeting or thanks at the beginning; empty where nothing does."""
    rest = text.strip()
    if _plain(rest) in _courtesies() or (found := _courtesy().match(rest)) is None:
        return ""
    rest = rest[found.end() :]
    return rest if any(character.isalnum() for character in rest) else ""


@cache
def _courtesies() -> frozenset[str]:
    questions = _vocabulary()["questions"]
    return frozenset(_plain(one) for topic in ("greeting", "thanks") for one in questions[topic])


@cache
def _courtesy() -> re.Pattern[str]:
    """A greeting or thanks with a mark after it, or with none after the few that nothing else begins with."""
    ended, alone = (
        "|".join(re.escape(one) for one in sorted(words, key=len, reverse=True))
        for words in (_courtesies(), _vocabulary()["courtesies"]["plain"])
    )
    return re.compile(rf"(?:{ended})\s*[,.;:!，。！;–-]+\s*|(?:{alone})(?:(?<=[\u4e00-\u9fff])|\s+)")


@cache
def _vocabulary() -> Mapping[str, Mapping[str, Sequence[str]]]:
    return tomllib.loads(PHRASINGS.read_text(encoding="utf-8"))


@cache
def _model() -> Pipeline:
    """Characters, words and keywords into a logistic regression, fitted in one to two seconds."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import FeatureUnion, make_pipeline

    pairs = [(text, topic) for topic, texts in _vocabulary()["questions"].items() for text in texts]
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(1, 4), min_df=2, sublinear_tf=True, preprocessor=_plain
    )
    words = TfidfVectorizer(
        token_pattern=r"\{\w+\}|\w+", ngram_range=(1, 2), sublinear_tf=True, preprocessor=_plain
    )
    # scikit-learn takes a function as analyzer; its stubs know the names of its own only.
    beginnings = TfidfVectorizer(analyzer=cast(Any, _beginnings))
    keywords = TfidfVectorizer(analyzer=cast(Any, _keywords), sublinear_tf=True)
    features = FeatureUnion(
        [("characters", characters), ("words", words), ("beginnings", beginnings), ("keywords", keywords)],
        transformer_weights={"keywords": KEYWORD_WEIGHT},
    )
    chooser = LogisticRegression(C=10.0, class_weight="balanced", max_iter=500, tol=1e-3)
    return make_pipeline(features, chooser).fit([text for text, _ in pairs], [topic for _, topic in pairs])


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[?？!¿¡.,;:。，！“”\"()]", " ", text.casefold()).split())


def _beginnings(text: str) -> list[str]:
    return [word[:5] for word in re.findall(r"\{\w+\}|\w+", _plain(text))]


def _keywords(text: str) -> list[str]:
    """The topics that words point to, each as often as one does, and which kinds of names stand there."""
    plain = _plain(text)
    found = [topic for topic, pattern in _keyword_patterns().items() for _ in pattern.finditer(plain)]
    return [*found, *re.findall(r"\{\w+\}", plain)]


@cache
def _keyword_patterns() -> Mapping[str, re.Pattern[str]]:
    patterns = {}
    for topic, words in _vocabulary()["keywords"].items():
        latin = [word for word in words if not _CHINESE.search(word)]
        spaced = [re.escape(word) + ("" if len(word) > WHOLE else r"(?!\w)") for word in latin]
        joined = [re.escape(word) for word in words if _CHINESE.search(word)]
        patterns[topic] = re.compile("|".join([rf"(?<!\w)(?:{'|'.join(spaced)})", *joined]))
    return patterns


def _spellings(task: Task) -> dict[str, str]:
    """Every spelling of a task's options, and which option it is; an option's own name goes first."""
    translated = _vocabulary()["labels"]
    words: dict[str, str] = {}
    for option in task.options:
        others = (*task.aliases.get(option, ()), *translated.get(option, ()))
        for word in (option, *others):
            words.setdefault(word.casefold(), option)
    return {**words, **{option.casefold(): option for option in task.options}}


def _found(text: str, words: Iterable[str]) -> list[str]:
    """The words that stand in a text, in order; of two that overlap the longer."""
    pattern = _pattern(tuple(words))
    return [match[0].casefold() for match in pattern.finditer(text.casefold())] if pattern else []


@cache
def _pattern(words: tuple[str, ...]) -> re.Pattern[str] | None:
    """Any of the words: whole, but where they are written without spaces."""
    longest = sorted(words, key=len, reverse=True)
    spaced = [re.escape(word) for word in longest if not _CHINESE.search(word)]
    joined = [re.escape(word) for word in longest if _CHINESE.search(word)]
    whole = [rf"(?<!\w)(?:{'|'.join(spaced)})(?!\w)"] if spaced else []
    return re.compile("|".join([*whole, *joined])) if words else None


def _masked(text: str, *masks: tuple[Mapping[str, Any], str]) -> str:
    masked = text.casefold()
    for words, mask in masks:
        if pattern := _pattern(tuple(words)):
            masked = pattern.sub(mask, masked)
    return masked


def _count(text: str) -> int | None:
    if (found := _COUNT.search(text.casefold())) is None:
        return None
    if found[1]:
        return int(found[1])
    return next(number for number, words in _NUMBERS.items() if found[2] in words.split())
