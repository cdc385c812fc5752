"""Putting a pack beside the builds of this installation."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ConfigurationError
from ...tasks import TaskBook
from ..builds import CARD, CASES, RECORD, SPECIALISTS, InstalledBuild, builds_folder, switch_build
from .content import BUILD, MANIFEST, REPORT
from .verification import CheckedPack, checked_pack

if TYPE_CHECKING:
    from ...settings import Settings


@dataclass(frozen=True)
class InstalledPack:
    """A pack that was installed."""

    build: InstalledBuild
    digest: str
    cases: int
    new: bool
    """False where this very pack was installed before; nothing was done then."""


def install_pack(settings: Settings, path: Path, *, replace: bool = False) -> InstalledPack:
    """Check a pack and install it as a version of the build of its name; that version is used from then on.

    Args:
        settings: of the installation.
        path: of the pack.
        replace: whether it may take the place of a built-in task, a task of the user's, or a build.

    Raises:
        ConfigurationError: the pack is damaged or must not be used, or its name is taken.
    """
    folder = builds_folder(settings.home)
    with checked_pack(path, folder) as pack:
        home = folder / pack.manifest.name
        if (earlier := _same(home, pack.manifest.digest)) is not None:
            build = switch_build(settings.home, pack.manifest.name, earlier.name)
            return InstalledPack(build, pack.manifest.digest, pack.cases, new=False)
        builtin = _check_name(settings, home, pack.manifest.name, replace)
        version = _next_version(home)
        _lay_out(pack, home / version, override=builtin)
        build = switch_build(settings.home, pack.manifest.name, version)
        return InstalledPack(build, pack.manifest.digest, pack.cases, new=True)


def _same(home: Path, digest: str) -> Path | None:
    for record in sorted(home.glob(f"v*/{RECORD}")):
        try:
            found = json.loads((record.parent / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and found.get("digest") == digest:
            return record.parent
    return None


def _check_name(settings: Settings, home: Path, name: str, replace: bool) -> bool:
    """Whether the name is that of a task that is there without builds."""
    known = name in TaskBook(settings.tasks)
    if not replace and (known or any(home.glob(f"v*/{RECORD}"))):
        what = "a task" if known else "a build"
        raise ConfigurationError(
            f"there is {what} {name} already; with --replace the pack takes its place, and "
            "`gsco build --rollback` takes that back where there was a build"
        )
    return known


def _next_version(home: Path) -> str:
    numbers = [int(path.name[1:]) for path in home.glob("v*") if path.name[1:].isdigit()]
    return f"v{max(numbers, default=0) + 1}"


def _lay_out(pack: CheckedPack, target: Path, *, override: bool) -> None:
    """Move the parts of an unpacked pack to where a build has them; the version appears whole."""
    fresh = pack.folder / "installed"
    fresh.mkdir()
    card = {**pack.task.model_dump(mode="json"), **({"override": True} if override else {})}
    (fresh / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.move(pack.specialists, fresh / SPECIALISTS)
    if pack.store.is_file():
        shutil.move(pack.store, fresh / CASES)
    if (pack.folder / REPORT).is_file():
        shutil.move(pack.folder / REPORT, fresh / REPORT)
    manifest = {"digest": pack.manifest.digest, **pack.manifest.model_dump(mode="json")}
    (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    record = pack.folder / BUILD
    text = record.read_text(encoding="utf-8") if record.is_file() else json.dumps({"name": pack.task.name})
    (fresh / RECORD).write_text(text, encoding="utf-8")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh.rename(target)
