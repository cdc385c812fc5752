"""From settings to the parts of a ``GSCo``: the bundled ones and the user's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..case import Missing
from ..errors import ConfigurationError, SpecialistError

if TYPE_CHECKING:
    from ..graphs.collaboration_fit import CollaborationFit
    from ..models.specialist.panel import Panel
    from ..settings import Settings


def parts_of(settings: Settings) -> dict[str, Any]:
    """Name the arguments of ``GSCo`` that follow from settings; nothing large is loaded yet.

    Raises:
        ConfigurationError: a folder that a setting names is not there.
        TaskError: a task card is wrong.
    """
    from ..graphs.drift import DriftMonitor
    from ..images import ImageLimits, ImageStore
    from ..models.generalist import load_generalist
    from ..models.mini import bundled
    from ..tasks import TaskBook
    from ..tools.stores import open_store

    images = ImageStore(
        settings.image_folder,
        ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels),
    )
    set_threads(settings.threads)
    folders = [bundled("specialists"), *own_specialists(settings)]
    return {
        "tasks": TaskBook(settings.tasks),
        "panels": LazyPanels(folders),
        "store": lambda: open_store(
            settings.case_store,
            home=settings.home,
            api_key=settings.case_store_api_key.get_secret_value(),
        ),
        "generalist": lambda: load_generalist(settings, images),
        "images": images,
        "neighbours": settings.neighbours,
        "moed": settings.moed,
        "rad": settings.rad,
        "gate": settings.gate,
        "profile": settings.profile,
        "decision": settings.decision,
        "max_error": settings.max_error,
        "floors": settings.floors,
        "fits": LazyFits(folders).get,
        "monitor": DriftMonitor(settings.home / "monitor", settings.drift),
        "trained_tasks": trained_tasks(settings),
        "conversations": settings.conversations.get_secret_value() or settings.home / "conversations.sqlite",
        "review": settings.review,
        "tool_calls": settings.tool_calls,
        "wording": settings.wording,
    }


def own_specialists(settings: Settings) -> list[Path]:
    """Return the user's folder of specialists, if there is one.

    Raises:
        ConfigurationError: it is named and not there.
    """
    if settings.specialists is None:
        return []
    if not settings.specialists.is_dir():
        raise ConfigurationError(f"GSCO_SPECIALISTS names {settings.specialists}, which is no folder")
    return [settings.specialists]


def set_threads(threads: int) -> None:
    """Set torch's threads; 0 leaves its own choice, without loading torch."""
    if threads > 0:
        import torch

        torch.set_num_threads(threads)


def trained_tasks(settings: Settings) -> frozenset[str] | None:
    """Tasks that the generalist was trained on, where its card says so: that of the bundled one does."""
    import json

    from ..models.mini import NAMES, bundled

    own = settings.generalist_url or settings.generalist_model
    if own and settings.generalist_model not in NAMES:
        return None
    card = json.loads((bundled("generalist") / "card.json").read_text(encoding="utf-8"))
    return frozenset(source["task"] for source in card["data"] if "task" in source)


class LazyFits:
    """What was fitted for each task, read at its first use.

    Args:
        folders: of specialists, laid out as ``TASK/NAME``; of two fits of one task the later counts.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._fits: dict[str, CollaborationFit | None] = {}

    def get(self, task: str) -> CollaborationFit | None:
        """The fit of a task.

        Raises:
            ConfigurationError: there is one and it cannot be read.
        """
        from ..graphs.collaboration_fit import read_fit

        if task not in self._fits:
            self._fits[task] = read_fit(self._folders, task)
        return self._fits[task]


class LazyPanels(Mapping[str, "Panel"]):
    """Panels by task name, each loaded at its first access; loaded ones come first.

    A panel that cannot be loaded at all has no members, and says in ``missing`` why.

    Args:
        folders: laid out as ``TASK/NAME/card.json``; of two specialists with one name the later counts.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._tasks = sorted(
            {card.parent.parent.name for folder in folders for card in folder.glob("*/*/card.json")}
        )
        self._panels: dict[str, Panel] = {}
        self._loading = threading.Lock()

    def __getitem__(self, task: str) -> Panel:
        if task not in self._tasks:
            raise KeyError(task)
        with self._loading:
            if task not in self._panels:
                self._panels[task] = _load(task, self._folders)
            return self._panels[task]

    def __contains__(self, task: object) -> bool:
        return task in self._tasks

    def __iter__(self) -> Iterator[str]:
        return iter([*self._panels, *(task for task in self._tasks if task not in self._panels)])

    def __len__(self) -> int:
        return len(self._tasks)


def _load(task: str, folders: Sequence[Path]) -> Panel:
    from ..models.specialist.panel import Panel

    try:
        return Panel.load(task, folders)
    except SpecialistError as error:
        return Panel(task, {}, missing=[Missing(source="specialist", reason=str(error))])
