"""Which specialists are there and whole, without loading one: cards are read, weights' hashes compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...case import Missing
from ...errors import SpecialistError
from .card import CARD_FILE, SpecialistCard, read_card
from .weights import checked_bytes


class Inventory(NamedTuple):
    """The specialists of one task."""

    names: tuple[str, ...]
    missing: tuple[Missing, ...]
    """What is broken, and why."""


def inventory(task: str, folders: Sequence[Path], options: Sequence[str] = ()) -> Inventory:
    """Look at every specialist of a task.

    Args:
        task: specialists are ``FOLDER/TASK/NAME``.
        folders: the bundled specialists and the user's; of two with one name the later counts.
        options: of the task, among which the labels must be; empty leaves that unchecked.
    """
    homes = {
        card.parent.name: card.parent for folder in folders for card in (folder / task).glob(f"*/{CARD_FILE}")
    }
    names: list[str] = []
    missing: list[Missing] = []
    for name, home in sorted(homes.items()):
        try:
            _look(home, task, options)
            names.append(name)
        except SpecialistError as error:
            missing.append(Missing(source=f"specialist:{name}", reason=str(error)))
    return Inventory(tuple(names), tuple(missing))


def _look(home: Path, task: str, options: Sequence[str]) -> None:
    card = read_card(home, SpecialistCard)
    if card.task != task or card.name != home.name:
        raise SpecialistError(f"its card names {card.task}/{card.name}, its folder is {task}/{home.name}")
    if options and (strange := sorted(set(card.labels) - set(options))):
        raise SpecialistError(f"its labels {strange} are not options of {task}: {sorted(options)}")
    checked_bytes(home, card.weights)
