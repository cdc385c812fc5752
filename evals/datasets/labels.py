"""Labels as a data set spells them, and as a task's options do."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ...case import Task, TaskKind
from ...errors import ConfigurationError


def spelt(labels: Sequence[Sequence[str]], task: Task) -> list[tuple[str, ...]]:
    """Spell labels as the task's options do; case and the card's aliases are allowed for.

    Raises:
        ConfigurationError: the task is open, a label is none of its options, or it asks for one label and
            an image has none or several.
    """
    if not task.kind.closed:
        raise ConfigurationError(f"task {task.name} has no options; only closed tasks can be scored by label")
    spelling = {option.casefold(): option for option in task.options}
    for option, others in task.aliases.items():
        spelling |= {other.casefold(): option for other in others if other.casefold() not in spelling}
    unknown = {label for several in labels for label in several if label.casefold() not in spelling}
    if unknown:
        name = min(unknown)
        near = difflib.get_close_matches(name.casefold(), spelling, 1)
        hint = f"; did you mean {spelling[near[0]]!r}?" if near else ""
        raise ConfigurationError(
            f"label {name!r} is no option of task {task.name}: {', '.join(task.options)}{hint}"
        )
    truths = [tuple(spelling[label.casefold()] for label in several) for several in labels]
    if task.kind is TaskKind.DIAGNOSIS and any(len(truth) != 1 for truth in truths):
        raise ConfigurationError(f"task {task.name} asks for one label, but an image has none or several")
    return truths
