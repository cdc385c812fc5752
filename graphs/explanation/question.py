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
from typing import Any

from ...case import Task
from .topic_model import TopicModel, folded, plain

PHRASINGS = Path(__file__).with_name("phrasings.toml")
LEAST = -0.5
"""A topic whose score is less than this is not taken: the question counts as ``Topic.OTHER``."""
CLEAR = -0.35
"""What follows a greeting is read alone where a topic scores as much as this."""
ASKED = 0.2
"""A question after something that is not about the record is read alone where its topic scores as much."""
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
_CLAUSE = re.compile(r"(?<=[.,;:!?。、\n])")
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
        topic=_topic(masked, of_specialist=bool(named)),
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


def _topic(masked: str, *, of_specialist: bool) -> Topic:
    if not any(character.isalnum() for character in masked):
        return Topic.DECISION if not masked.strip(" ?？!.") else Topic.OTHER
    text = folded(masked)
    rest, last = _without_courtesies(text), _last_clause(text)
    score, best = _scored(rest)
    if score < CLEAR:
        score, best = max(_scored(one) for one in (rest, text, last))
    if best == Topic.OTHER and (asked := _scored(last))[0] >= ASKED:
        score, best = asked  # what stands before it is the history of the patient
    if score < LEAST or best == Topic.OTHER:
        # A question that names a specialist is about it.
        return Topic.SPECIALISTS if of_specialist else Topic.OTHER
    return Topic(best)


def _scored(text: str) -> tuple[float, str]:
    """The topic that fits a text best, after how well it does."""
    scores = _model().scores(text)
    if "?" in text:
        del scores[Topic.THANKS]
    return max((score, topic) for topic, score in scores.items())


def _without_courtesies(text: str) -> str:
    """What stands between greetings and thanks; the text where that is nothing but who is greeted."""
    if plain(text) in _courtesies():
        return text
    before, after = _courtesy()
    rest = after.sub("", before.sub("", text, 1), 1)
    return rest if plain(rest) not in {"", *_vocabulary()["courtesies"]["greeted"]} else text


def _last_clause(text: str) -> str:
    clauses = [clause for clause in _CLAUSE.split(text) if plain(clause) not in {"", *_courtesies()}]
    return clauses[-1] if clauses else text


@cache
def _courtesies() -> frozenset[str]:
    questions = _vocabulary()["questions"]
    return frozenset(plain(one) for topic in ("greeting", "thanks") for one in questions[topic])


@cache
def _courtesy() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What may stand before and after a question: with a mark, or without where it is nothing else."""
    polite = _vocabulary()["courtesies"]
    ended, alone = (
        "|".join(re.escape(one) for one in sorted(words, key=len, reverse=True))
        for words in ({*_courtesies(), *map(folded, polite["greeted"])}, map(folded, polite["plain"]))
    )
    before = rf"\s*(?:(?:{ended})\s*[,.;:!。–-]+\s*|(?:{alone})(?:(?<=[\u4e00-\u9fff])|\s+))+"
    after = rf"(?:[,.;!。\s]+|(?<=[\u4e00-\u9fff?]))(?:{alone})[.!。\s]*$"
    return re.compile(before), re.compile(after)


@cache
def _vocabulary() -> Mapping[str, Mapping[str, Sequence[str]]]:
    return tomllib.loads(PHRASINGS.read_text(encoding="utf-8"))


@cache
def _model() -> TopicModel:
    return TopicModel(_vocabulary()["questions"], _vocabulary()["meanings"])


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
