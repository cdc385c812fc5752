"""From settings to the parts of a ``GSCo``: the bundled ones and the user's own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..models.torch_threads import set_threads
from .builds import InstalledBuild, installed_builds, joined_store, task_book

if TYPE_CHECKING:
    from ..case import Task
    from ..graphs.collaboration_fit import CollaborationFit
    from ..models.specialist.panel import Panel
    from ..models.specialist.protocol import Specialist
    from ..settings import Settings
    from ..tasks import TaskBook
    from ..tools.stores.protocol import CaseStore

_log = logging.getLogger(__name__)


def parts_of(
    settings: Settings,
    builds: Sequence[InstalledBuild] | None = None,
    *,
    specialists: Sequence[Specialist] = (),
    case_store: CaseStore | None = None,
    tasks: Sequence[Task] = (),
) -> dict[str, Any]:
    """Name the arguments of ``GSCo`` that follow from settings; nothing large is loaded yet.

    Args:
        settings: of this installation.
        builds: added to them; None means the installed ones.
        specialists: of the caller's own, asked beside those of the settings.
        case_store: of the caller's own; None opens that of the settings and those of builds.
        tasks: cards of the caller's own, added to those of the settings.

    Raises:
        ConfigurationError: a folder that a setting names is not there, or the store lacks a method.
        TaskError: the folder of task cards cannot be read.
    """
    from ..graphs.drift import DriftMonitor
    from ..images import ImageLimits, ImageStore
    from ..images.memory import DECODING
    from ..models.generalist import load_generalist
    from ..models.generalist.prompts import prompt_profile
    from .text_limits import TextLimits

    images = ImageStore(
        settings.image_folder,
        ImageLimits(
            max_bytes=settings.max_image_bytes,
            max_pixels=settings.max_image_pixels,
            max_side=settings.max_image_side,
        ),
    )
    DECODING.capacity = settings.decoding_bytes
    builds = installed_builds(settings.home) if builds is None else builds
    folders = specialist_folders(settings, builds)
    book, fits = task_book(settings, builds, tasks), LazyFits(folders)
    return {
        "tasks": book,
        "panels": LazyPanels(folders, book, settings.torch_threads),
        "specialists": tuple(specialists),
        "store": _checked(case_store) if case_store is not None else lambda: joined_store(settings, builds),
        "generalist": lambda: load_generalist(settings, images),
        "images": images,
        "neighbours": settings.neighbours,
        "moed": settings.moed,
        "rad": settings.rad,
        "gate": settings.gate,
        "profile": prompt_profile(settings.profile).name,
        "decision": settings.decision,
        "max_error": settings.max_error,
        "floors": settings.floors,
        "fits": fits.get,
        "fit_problems": fits.problems,
        "monitor": DriftMonitor(settings.home / "monitor", settings.drift),
        "trained_tasks": trained_tasks(settings),
        "conversations": settings.conversations.get_secret_value() or settings.home / "conversations.sqlite",
        "review": settings.review,
        "tool_calls": settings.tool_calls,
        "wording": settings.wording,
        "text_limits": TextLimits(settings.max_message_characters, settings.max_request_characters),
    }


def _checked(store: CaseStore) -> CaseStore:
    from ..tools.stores.protocol import CaseStore

    if isinstance(store, CaseStore):
        return store
    methods = [name for name in vars(CaseStore) if not name.startswith("_")]
    missing = [name for name in methods if not hasattr(store, name)]
    raise ConfigurationError(
        f"{type(store).__name__} is not a case store: it lacks {', '.join(missing)}; see gsco.CaseStore"
    )


def specialist_folders(settings: Settings, builds: Sequence[InstalledBuild] | None = None) -> list[Path]:
    """Folders of specialists: the bundled one, the user's own, and those of builds; a later one goes before.

    Args:
        settings: of the installation.
        builds: None means the installed ones.

    Raises:
        ConfigurationError: the user's own is named and not there.
    """
    from ..models.mini import bundled

    builds = installed_builds(settings.home) if builds is None else builds
    return [bundled("specialists"), *own_specialists(settings), *(build.specialists for build in builds)]


def own_specialists(settings: Settings) -> list[Path]:
    """Return the user's folder of specialists, if there is one.

    Raises:
        ConfigurationError: it is named and not there.
    """
    if settings.specialists is None:
        return []
    if not settings.specialists.is_dir():
        raise ConfigurationError(f"GSCO_SPECIALISTS names {settings.specialists}, which is not a folder")
    return [settings.specialists]


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

    A fit that cannot be read is missing evidence, not the end of the task: ``problems`` says why, by task.

    Args:
        folders: of specialists, laid out as ``TASK/NAME``; of two fits of one task the later counts.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._fits: dict[str, CollaborationFit | None] = {}
        self.problems: dict[str, str] = {}

    def get(self, task: str) -> CollaborationFit | None:
        """The fit of a task; None where there is none that can be read."""
        from ..graphs.collaboration_fit import read_fit

        if task not in self._fits:
            try:
                self._fits[task] = read_fit(self._folders, task)
            except ConfigurationError as error:
                _log.warning("%s", error)
                self._fits[task], self.problems[task] = None, str(error)
        return self._fits[task]


class LazyPanels(Mapping[str, "Panel"]):
    """Panels by task name, each loaded at its first access; loaded ones come first.

    Args:
        folders: laid out as ``TASK/NAME/card.json``; of two specialists with one name the later counts.
        tasks: whose options the labels must be among; None leaves that unchecked.
        threads: ``Settings.threads``.
    """

    def __init__(self, folders: Sequence[Path], tasks: TaskBook | None = None, threads: int = 0) -> None:
        self._folders = folders
        self._book = tasks
        self._threads = threads
        self._tasks = sorted(
            {card.parent.parent.name for folder in folders for card in folder.glob("*/*/card.json")}
        )
        self._panels: dict[str, Panel] = {}
        self._loading = threading.Lock()

    def __getitem__(self, task: str) -> Panel:
        if task not in self._tasks:
            raise KeyError(task)
        from ..models.specialist.panel import Panel

        with self._loading:
            if task not in self._panels:
                options = self._book.get(task).options if self._book and task in self._book else ()
                set_threads(self._threads)
                self._panels[task] = Panel.load(task, self._folders, options=options)
            return self._panels[task]

    def __contains__(self, task: object) -> bool:
        return task in self._tasks

    def __iter__(self) -> Iterator[str]:
        return iter([*self._panels, *(task for task in self._tasks if task not in self._panels)])

    def __len__(self) -> int:
        return len(self._tasks)
