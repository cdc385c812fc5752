"""Where builds lie and which version of each is used; see ``gsco build``.

A build is ``GSCO_HOME/builds/NAME/vN``: the task card, its specialists with what was fitted for them, and its
known cases. The file ``current`` beside the versions names the one that is used, so that a version appears,
and is taken back, at once or not at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .._support.jsonl import write_atomically
from ..disk import read_file
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..case import Task
    from ..settings import Settings
    from ..tasks import TaskBook
    from ..tools.stores.protocol import CaseStore

CURRENT = "current"
CARD, SPECIALISTS, CASES, RECORD, REPORT = (
    "task.json",
    "specialists",
    "cases.sqlite",
    "build.json",
    "report.html",
)
PARTS_FILE = "parts.jsonl"
"""Which image is in which part of the data."""
WORK = "work"
"""Of a build that is not at its end."""
_END = "<!--end of example-->"
_log = logging.getLogger(__name__)
_VERSION = re.compile(r"^v[1-9][0-9]*$")


@dataclass(frozen=True)
class InstalledBuild:
    """One version of a build."""

    name: str
    """Of the build, and of its task."""
    folder: Path

    @property
    def version(self) -> str:
        """Such as ``v2``."""
        return self.folder.name

    @property
    def card(self) -> Path:
        """The task card."""
        return self.folder / CARD

    @property
    def specialists(self) -> Path:
        """Folder of specialists, laid out as ``TASK/NAME``, with the fit beside them."""
        return self.folder / SPECIALISTS

    @property
    def cases(self) -> Path:
        """File of the case store."""
        return self.folder / CASES

    @property
    def record(self) -> Path:
        """What was built from what, and measured."""
        return self.folder / RECORD


def builds_folder(home: Path) -> Path:
    """Folder of all builds."""
    return home / "builds"


def installed_builds(home: Path) -> list[InstalledBuild]:
    """The current version of every build, by name; one that is damaged is logged and left out."""
    found, damaged = _builds(home)
    for name, error in damaged.items():
        _log.warning("%s; the build %s is left out", error, name)
    return found


def damaged_builds(home: Path) -> dict[str, ConfigurationError]:
    """What is wrong with a build, by its name."""
    return _builds(home)[1]


def _builds(home: Path) -> tuple[list[InstalledBuild], dict[str, ConfigurationError]]:
    found: list[InstalledBuild] = []
    damaged: dict[str, ConfigurationError] = {}
    for name in sorted(path.parent.name for path in builds_folder(home).glob(f"*/{CURRENT}")):
        try:
            build = current_build(home, name)
        except ConfigurationError as error:
            damaged[name] = error
            continue
        found += [build] if build is not None else []
    return found, damaged


def current_build(home: Path, name: str) -> InstalledBuild | None:
    """The version of a build that is used; None where there is none yet.

    Raises:
        ConfigurationError: the file that names it is damaged, or the version is not there.
    """
    path = builds_folder(home) / name / CURRENT
    try:
        version = read_file(path, 100).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    folder = path.parent / version
    if not _VERSION.match(version) or not (folder / CARD).is_file():
        raise ConfigurationError(
            f"{path} names version {version!r}, which is not there; "
            f"write one of {', '.join(versions(home, name)) or 'none'} into it, or remove it"
        )
    return InstalledBuild(name, folder)


def versions(home: Path, name: str) -> list[str]:
    """Versions of a build that came to their end, oldest first."""
    found = (builds_folder(home) / name).glob(f"v*/{RECORD}")
    names = [path.parent.name for path in found if _VERSION.match(path.parent.name)]
    return sorted(names, key=lambda version: int(version[1:]))


def switch_build(home: Path, name: str, version: str) -> InstalledBuild:
    """Use a version from now on.

    Raises:
        ConfigurationError: there is no such version.
    """
    if version not in versions(home, name):
        raise ConfigurationError(
            f"build {name} has no version {version}; available: {', '.join(versions(home, name)) or 'none'}"
        )
    folder = builds_folder(home) / name
    write_atomically(folder / CURRENT, version + "\n")
    return InstalledBuild(name, folder / version)


def roll_back(home: Path, name: str) -> InstalledBuild:
    """Use the version before the current one.

    Raises:
        ConfigurationError: there is none.
    """
    current = current_build(home, name)
    if current is None:
        raise ConfigurationError(f"there is no build {name}; `gsco build FOLDER --name {name}` makes it")
    known = versions(home, name)
    earlier = known[: known.index(current.version)] if current.version in known else known
    if not earlier:
        raise ConfigurationError(f"build {name} has no version before {current.version}")
    return switch_build(home, name, earlier[-1])


def case_stores(home: Path) -> list[Path]:
    """Files of the case stores of all versions of all builds."""
    return sorted(builds_folder(home).glob(f"*/v*/{CASES}"))


def forget_group(home: Path, group: str) -> int:
    """Erase a group from the lists and reports of all versions of all builds, and unfinished work.

    Its known cases are erased from the stores; see ``case_stores``.

    Returns:
        How many images were listed.
    """
    listed = 0
    for folder in sorted(builds_folder(home).glob("*/v*")):
        shutil.rmtree(folder / WORK, ignore_errors=True)
        if (parts := folder / PARTS_FILE).is_file():
            lines = parts.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["group"] != group]
            listed += len(lines) - len(kept)
            write_atomically(parts, "".join(kept))
        if (report := folder / REPORT).is_file():
            write_atomically(report, without_examples(report.read_text(encoding="utf-8"), group))
    return listed


def group_mark(group: str) -> str:
    """How a report marks the examples of a group, without its name."""
    return hashlib.sha256(group.encode()).hexdigest()[:16]


def without_examples(page: str, group: str) -> str:
    """A report without the examples of a group."""
    start = f"<!--example {group_mark(group)}-->"
    while (begin := page.find(start)) >= 0:
        page = page[:begin] + page[page.index(_END, begin) + len(_END) :]
    return page


def task_book(
    settings: Settings, builds: Sequence[InstalledBuild] | None = None, own: Sequence[Task] = ()
) -> TaskBook:
    """All tasks: the built-in ones, the user's cards, and those of builds.

    Args:
        settings: of the installation.
        builds: None means the installed ones.
        own: cards made in Python.

    Raises:
        TaskError: the folder of cards cannot be read.
    """
    from ..tasks import TaskBook

    builds = installed_builds(settings.home) if builds is None else builds
    return TaskBook(settings.tasks, own, [build.card for build in builds])


def joined_store(settings: Settings, builds: Sequence[InstalledBuild]) -> CaseStore:
    """The case store of the settings, or the bundled one, together with the known cases of builds.

    Raises:
        ConfigurationError: the address of the store is of an unknown kind.
        StoreError: a store cannot be opened.
    """
    from ..tools.stores import open_store
    from ..tools.stores.joined import JoinedStore

    base = open_store(
        settings.case_store, home=settings.home, api_key=settings.case_store_api_key.get_secret_value()
    )
    found = [build for build in builds if build.cases.is_file()]
    if not found:
        return base
    return JoinedStore(base, {build.name: open_store(build.cases, home=settings.home) for build in found})
