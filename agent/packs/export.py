"""Writing a pack of a task: a build, one of the bundled tasks, or one put together by settings."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ... import __version__
from ...case import Task
from ...errors import ConfigurationError
from ...graphs.collaboration_fit import COLLABORATION_FILE, CollaborationFit, read_fit
from ...models.specialist.card import CARD_FILE, SpecialistCard, read_card
from ...models.specialist.panel import PANEL_FILE
from ...tools.stores.protocol import Filter
from ..assembly import specialist_folders
from ..builds import InstalledBuild, installed_builds, joined_store, task_book
from .archive import packed_file, write_archive
from .content import BUILD, LICENCE, METADATA, README, REPORT, TASK, Manifest, allowed
from .documents import bundle_metadata, licences_text, model_card
from .known_cases import packed_cases

if TYPE_CHECKING:
    from ...settings import Settings


@dataclass(frozen=True)
class ExportedPack:
    """A pack that was written."""

    path: Path
    manifest: Manifest
    cases: int
    notes: tuple[str, ...] = ()


def export_pack(settings: Settings, name: str, path: Path, *, images: bool = True) -> ExportedPack:
    """Write the pack of a task; the same task gives the same bytes.

    Args:
        settings: where specialists, builds and case store are.
        name: of the task or build.
        path: of the pack.
        images: whether the thumbnails of known cases go along, and a build's report, which shows some.

    Raises:
        GscoError: there is no such task, it has no specialist, or a part of it cannot be packed.
    """
    builds = installed_builds(settings.home)
    task = task_book(settings, builds).get(name)
    if not task.kind.closed:
        raise ConfigurationError(f"{name} has no options; only diagnosis tasks can be packed")
    build = next((one for one in builds if one.name == name), None)
    parts, cards = _specialists(specialist_folders(settings, builds), name)
    if not cards:
        raise ConfigurationError(f"task {name} has no specialist to pack")
    with closing(joined_store(settings, builds)) as store:
        entries = list(store.scan(Filter((name,))))
    known = packed_cases(entries, thumbnails=images)
    found, fit = _record(build), read_fit(specialist_folders(settings, builds), name)
    licences = _licences(task, cards, {entry.case.licence for entry in entries})
    files: dict[str, bytes | Path] = {
        **parts,
        **known,
        TASK: _json(task.model_dump(mode="json")),
        LICENCE: licences_text(name, licences).encode(),
        README: model_card(task, cards, fit, found, len(entries), licences).encode(),
        METADATA: _json(bundle_metadata(task, cards, licences)),
    }
    if found:
        files[BUILD] = _json(found)
    if build and images and (build.folder / REPORT).is_file():
        files[REPORT] = build.folder / REPORT
    manifest = Manifest(
        name=name,
        version=build.version if build else "",
        gsco=__version__,
        backbones={card.base.name: card.base.sha256 for card in cards.values() if card.base},
        files={name: packed_file(content) for name, content in sorted(files.items())},
    )
    write_archive(path, files, manifest)
    return ExportedPack(path, manifest, len(entries), _notes(fit, licences))


def _specialists(folders: list[Path], name: str) -> tuple[dict[str, bytes | Path], dict[str, SpecialistCard]]:
    """The files of a task's specialists; of two with one name the later counts, as in a panel."""
    homes = {
        card.parent.name: card.parent for folder in folders for card in (folder / name).glob("*/card.json")
    }
    files: dict[str, bytes | Path] = {}
    cards: dict[str, SpecialistCard] = {}
    for member, home in sorted(homes.items()):
        cards[member] = card = read_card(home, SpecialistCard)
        for file in (CARD_FILE, card.weights.file):
            place = f"specialists/{name}/{member}/{file}"
            if not allowed(place):
                raise ConfigurationError(f"specialist {member} has the file {file}, which cannot be packed")
            files[place] = home / file
    for file in (PANEL_FILE, COLLABORATION_FILE):
        if places := [folder / name / file for folder in folders if (folder / name / file).is_file()]:
            files[f"specialists/{name}/{file}"] = places[-1]
    return files, cards


def _record(build: InstalledBuild | None) -> dict[str, object]:
    """What a build wrote down of itself, without the place of its images on this machine."""
    if build is None or not build.record.is_file():
        return {}
    return {**json.loads(build.record.read_text(encoding="utf-8")), "folder": ""}


def _licences(task: Task, cards: dict[str, SpecialistCard], cases: set[str]) -> dict[str, str]:
    told = {"task": task.licence} | {f"specialist {name}": card.licence for name, card in cards.items()}
    if cases:
        told["known cases"] = "; ".join(sorted(filter(None, cases)))
    return {what: text or "not stated" for what, text in told.items()}


def _notes(fit: CollaborationFit | None, licences: dict[str, str]) -> tuple[str, ...]:
    notes = []
    if fit is None:
        notes.append("nothing was fitted for the task, so that the pack holds no certificate")
    elif fit.parts.generalist:
        notes.append(f"the fit asks {fit.parts.generalist}, which the pack does not hold")
    if unstated := [what for what, text in licences.items() if text == "not stated"]:
        notes.append(f"no licence is stated for {', '.join(unstated)}; state it before you pass the pack on")
    return tuple(notes)


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
