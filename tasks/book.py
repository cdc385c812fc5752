"""All tasks that are known: built-in and the user's."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from ..case import Task
from ..errors import TaskError, TaskUnknown
from .card import SUFFIXES, claimed_name, read_card

log = logging.getLogger(__name__)


def builtin_tasks() -> dict[str, Task]:
    """The tasks that come with gsco, by name."""
    return dict(_builtin())


@cache
def _builtin() -> dict[str, Task]:
    tasks = (read_card(path).task for path in sorted(Path(__file__).parent.glob("*.toml")))
    return {task.name: task for task in tasks}


class TaskBook:
    """Built-in tasks and those of a user's folder, by name.

    A card that says ``override = true`` replaces the built-in task of its name. A card that is wrong stops
    only the task whose name it has: ``get`` says what is wrong with it, and the other tasks go on.

    Args:
        folder: where the user's cards are (``*.toml`` and ``*.json``), if any.
        own: cards made in Python; they replace those of the same name.
        cards: further files of cards, such as those of builds.

    Raises:
        TaskError: the folder cannot be read.
    """

    def __init__(
        self, folder: Path | None = None, own: Iterable[Task] = (), cards: Iterable[Path] = ()
    ) -> None:
        self._tasks = builtin_tasks()
        self._wrong: dict[str, TaskError] = {}
        self._add([*(_cards_in(Path(folder)) if folder is not None else ()), *cards])
        self._tasks |= {task.name: task for task in own}

    def get(self, name: str) -> Task:
        """Return a task.

        Raises:
            TaskUnknown: there is none of that name; the message lists the nearest names.
            TaskError: its card is wrong.
        """
        if name in self._wrong:
            # A new error each time: one that is kept would collect the traceback of every caller.
            raise TaskError(str(self._wrong[name])) from self._wrong[name].__cause__
        if name in self._tasks:
            return self._tasks[name]
        near = get_close_matches(name, self._tasks, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(self.names())}"
        raise TaskUnknown(f"there is no task named {name!r}; {hint}")

    @property
    def wrong(self) -> Mapping[str, TaskError]:
        """What is wrong with a card, by the name of the task that it stops."""
        return dict(self._wrong)

    def names(self) -> list[str]:
        """Names of all tasks that can be used, sorted."""
        return sorted(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter([self._tasks[name] for name in self.names()])

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def _add(self, paths: Iterable[Path]) -> None:
        added: dict[str, Path] = {}
        for path in paths:
            name = claimed_name(path)
            try:
                task, override = read_card(path)
                _check_name(path, task.name, override, added.get(task.name))
            except TaskError as error:
                # The built-in task of that name does not stand in for a card that was meant to replace it.
                self._tasks.pop(name, None)
                self._wrong[name] = error
                log.warning("%s; the task %s is left out", error, name)
                added[name] = path
                continue
            added[task.name] = path
            self._tasks[task.name] = task


def _cards_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise TaskError(f"the folder of task cards {folder} cannot be read: {error.strerror}") from error


def _check_name(path: Path, name: str, override: bool, other: Path | None) -> None:
    if other is not None:
        raise TaskError(f"task card {path}: name: {other.name} has the same name, {name}")
    if name in _builtin() and not override:
        raise TaskError(
            f"task card {path}: name: {name} is a built-in task; choose another name, or set override = true"
        )
