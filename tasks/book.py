"""All tasks that are known: built-in and the user's."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from ..case import Task
from ..errors import TaskError, TaskUnknown
from .card import SUFFIXES, read_card


def builtin_tasks() -> dict[str, Task]:
    """The tasks that come with gsco, by name."""
    return dict(_builtin())


@cache
def _builtin() -> dict[str, Task]:
    tasks = (read_card(path).task for path in sorted(Path(__file__).parent.glob("*.toml")))
    return {task.name: task for task in tasks}


class TaskBook:
    """Built-in tasks and those of a user's folder, by name.

    Args:
        folder: where the user's cards are (``*.toml`` and ``*.json``), if any.

    Raises:
        TaskError: the folder is absent, a card in it is wrong, or two cards bear one name. A card that says
            ``override = true`` replaces the built-in task of its name.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._tasks = builtin_tasks()
        if folder is not None:
            self._add_folder(Path(folder))

    def get(self, name: str) -> Task:
        """Return a task.

        Raises:
            TaskUnknown: there is none of that name; the message lists the nearest names.
        """
        if name in self._tasks:
            return self._tasks[name]
        near = get_close_matches(name, self._tasks, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(self.names())}"
        raise TaskUnknown(f"no task is called {name!r}; {hint}")

    def names(self) -> list[str]:
        """Names of all tasks, sorted."""
        return sorted(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter([self._tasks[name] for name in self.names()])

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def _add_folder(self, folder: Path) -> None:
        try:
            paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        except OSError as error:
            raise TaskError(f"the folder of task cards {folder} cannot be read: {error.strerror}") from error
        added: dict[str, Path] = {}
        for path in paths:
            task, override = read_card(path)
            if task.name in added:
                raise TaskError(
                    f"task card {path}: name: {added[task.name].name} bears the same name, {task.name}"
                )
            if task.name in _builtin() and not override:
                raise TaskError(
                    f"task card {path}: name: {task.name} is a built-in task;"
                    " take another name, or say override = true"
                )
            added[task.name] = path
            self._tasks[task.name] = task
