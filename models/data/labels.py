"""Labels: several in one text, missing ones, spellings that are too close, and a task's options."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from ...case import Task, TaskKind
from ...errors import ConfigurationError

MISSING = frozenset({"nan", "<na>", "n/a", "#n/a", "null", "nat"})
"""Words that table programs write for a value that is missing."""
_SEPARATORS = ("|", ";", "+")
_CLOSE = 0.9


def separator_of(texts: Iterable[str], multilabel: bool | None) -> str | None:
    """The sign between several labels of one image; None where each text is one label.

    Args:
        texts: the labels as they stand in a table.
        multilabel: whether images may have several labels, where that is known. Otherwise a ``|``, ``;`` or
            ``+`` counts as a separator only where it stands between two names in every text that has it:
            ``effusion+mass``, but not ``CD4+`` or ``ER+/HER2-``.
    """
    if multilabel is False:
        return None
    texts = list(texts)
    for sign in _SEPARATORS:
        holding = [text for text in texts if sign in text]
        if holding and (multilabel or all(_separates(sign, text) for text in holding)):
            return sign
    return "+" if multilabel else None


def _separates(sign: str, text: str) -> bool:
    parts = text.split(sign)
    if any(not part.strip() or re.match(r"\s*[/)\]]", part) for part in parts):
        return False
    # A blank on one side only belongs to a name, as in "CD4+ T cells".
    return all(left.endswith(" ") == right.startswith(" ") for left, right in pairwise(parts))


def spelt(labels: Sequence[Sequence[str]], task: Task) -> list[tuple[str, ...]]:
    """Spell labels as the task's options do; case and the card's aliases are allowed for.

    Raises:
        ConfigurationError: the task is open, a label is none of its options, or it asks for one label and
            an image has none or several.
    """
    if not task.kind.closed:
        raise ConfigurationError(f"task {task.name} has no options; only closed tasks can be scored by label")
    spelling = spellings(task)
    unknown = {label for several in labels for label in several if label.casefold() not in spelling}
    if unknown:
        name = min(unknown)
        near = difflib.get_close_matches(name.casefold(), spelling, 1)
        hint = f"; did you mean {spelling[near[0]]!r}?" if near else ""
        raise ConfigurationError(
            f"label {name!r} is not an option of task {task.name}: {', '.join(task.options)}{hint}"
        )
    truths = [tuple(dict.fromkeys(spelling[label.casefold()] for label in several)) for several in labels]
    if task.kind is TaskKind.DIAGNOSIS and any(len(truth) != 1 for truth in truths):
        raise ConfigurationError(f"task {task.name} asks for one label, but an image has none or several")
    return truths


def spellings(task: Task) -> dict[str, str]:
    """Every accepted spelling of a task's options, in small letters, and the option it stands for."""
    found = {option.casefold(): option for option in task.options}
    for option, others in task.aliases.items():
        found |= {other.casefold(): option for other in others if other.casefold() not in found}
    return found


def check_spellings(labels: Iterable[str]) -> list[str]:
    """Refuse labels that differ in case or blanks alone, and return notes on those that look like typos.

    Raises:
        ConfigurationError: two labels are one but for case or blanks.
    """
    counts = Counter(labels)
    seen: dict[str, str] = {}
    for label in sorted(counts):
        plain = " ".join(re.split(r"[\s_]+", label.casefold()))
        if plain in seen:
            one, other = seen[plain], label
            raise ConfigurationError(
                f"the labels {one!r} ({counts[one]} images) and {other!r} ({counts[other]}) differ only in "
                "case or blanks; write them alike, or name a task whose card has the right spelling"
            )
        seen[plain] = label
    return [
        f"label {label!r} ({counts[label]} images) may be a typing error of {other!r}"
        for label, other in near_spellings(counts)
    ]


def near_spellings(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return rare labels with the frequent one that each may be a typing error of, the rarest first."""
    found = []
    for label, count in sorted(counts.items(), key=lambda pair: pair[1]):
        near = [n for n in difflib.get_close_matches(label, counts, 3, _CLOSE) if n != label]
        if near and len(label) > 4 and 10 * count < counts[near[0]]:
            found.append((label, near[0]))
    return found
