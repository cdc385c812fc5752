"""All specialists of one task."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ...case import Missing, Opinion, Record
from ...disk import read_file, replacing
from ...errors import SpecialistError
from .card import CARD_FILE, SpecialistCard, read_card
from .specialist import Forward, TimmSpecialist

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PANEL_FILE = "panel.json"


class PanelFile(Record):
    """``panel.json`` beside the members' folders."""

    retriever: str
    """Name of the member whose embeddings find similar cases."""


class Panel:
    """The specialists of one task, those that could be loaded and those that could not.

    Args:
        task: its name.
        members: by name.
        missing: what could not be loaded, and why.
        retriever: name of the member whose embedding retrieval uses; empty means the most reliable one.
    """

    def __init__(
        self,
        task: str,
        members: Mapping[str, TimmSpecialist],
        *,
        missing: Sequence[Missing] = (),
        retriever: str = "",
    ) -> None:
        self.task = task
        self.members = dict(members)
        self.missing = tuple(missing)
        if retriever not in self.members:
            # Retrieval goes on with another encoder; the absent one stands in ``missing``.
            embedders = {name: member for name, member in self.members.items() if member.card.encoder}
            retriever = max(embedders, key=lambda name: embedders[name].card.reliability or 0.0, default="")
        self.retriever = retriever

    @classmethod
    def load(
        cls,
        task_name: str,
        folders: Sequence[Path],
        *,
        options: Sequence[str] = (),
        bases: Path | None = None,
        device: str | torch.device = "cpu",
    ) -> Panel:
        """Load every specialist of a task; one that is broken or does not fit is reported in ``missing``.

        All members of a panel have the same labels. Where they differ, those with the task's options stay,
        or else those that most have; the others are left out.

        Args:
            task_name: members are ``FOLDER/TASK/NAME``.
            folders: the bundled specialists and the user's; of two with one name the later counts.
            options: of the task; labels must be among them. Empty for an open task or an unknown one.
            bases: folder of shared backbones; None means the bundled one.
            device: where they will run.
        """
        members: dict[str, TimmSpecialist] = {}
        missing: dict[str, Missing] = {}
        retriever = ""
        for folder in folders:
            try:
                retriever = _read_retriever(folder / task_name) or retriever
            except SpecialistError as error:
                missing[PANEL_FILE] = Missing(source=f"specialist:{PANEL_FILE}", reason=str(error))
            for home in _homes(folder / task_name):
                members.pop(home.name, None)
                missing.pop(home.name, None)
                try:
                    members[home.name] = _load_member(home, task_name, bases, device)
                except SpecialistError as error:
                    missing[home.name] = Missing(source=f"specialist:{home.name}", reason=str(error))
        if retriever and retriever not in members and retriever not in missing:
            reason = f"{PANEL_FILE} names it as retriever, but there is no such specialist"
            missing[retriever] = Missing(source=f"specialist:{retriever}", reason=reason)
        for name, reason in _misfits(members, tuple(options)):
            del members[name]
            missing[name] = Missing(source=f"specialist:{name}", reason=reason)
        return cls(task_name, members, missing=list(missing.values()), retriever=retriever)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that all members share, in the first one's order; empty without classifiers."""
        return next((member.card.labels for member in self.members.values() if member.card.labels), ())

    def forward(self, images: Sequence[Image], batch_size: int = 64) -> dict[str, Forward]:
        """Run every member on a batch of images; members that share a trunk run it once."""
        features = {}
        results = {}
        for name, member in self.members.items():
            if member.trunk_key not in features:
                features[member.trunk_key] = member.features(images, batch_size)
            results[name] = member.head(features[member.trunk_key])
        return results

    def opinions(self, images: Sequence[Image], batch_size: int = 64) -> list[tuple[Opinion, ...]]:
        """Return what every member says of each image."""
        results = self.forward(images, batch_size)
        return [
            tuple(self.members[name].opinion(forward, index) for name, forward in results.items())
            for index in range(len(images))
        ]


def _homes(folder: Path) -> list[Path]:
    return sorted(card.parent for card in folder.glob(f"*/{CARD_FILE}"))


def _read_retriever(folder: Path) -> str:
    try:
        return PanelFile.model_validate_json(read_file(folder / PANEL_FILE, 2**20)).retriever
    except FileNotFoundError:
        return ""
    except (OSError, ValidationError) as error:
        raise SpecialistError(f"{PANEL_FILE} of {folder.name!r} cannot be read: {error}") from error


def _load_member(home: Path, task: str, bases: Path | None, device: str | torch.device) -> TimmSpecialist:
    try:
        card = read_card(home, SpecialistCard)
        if card.task != task or card.name != home.name:
            raise SpecialistError(f"its card names {card.task}/{card.name}, its folder is {task}/{home.name}")
        return TimmSpecialist.load(home, bases=bases, device=device)
    except SpecialistError:
        raise
    except Exception as error:  # torch, timm and damaged files raise anything; one member must not stop all
        raise SpecialistError(f"it cannot be loaded: {type(error).__name__}: {error}") from error


def _misfits(members: Mapping[str, TimmSpecialist], options: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Name the members whose labels are not those of the panel, and say why."""
    sets = {name: frozenset(member.card.labels) for name, member in members.items() if member.card.labels}
    foreign = {name for name, labels in sets.items() if options and not labels <= set(options)}
    for name in sorted(foreign):
        strange = sorted(sets[name] - set(options))
        yield name, f"its labels {strange} are not options of the task, which are {sorted(options)}"
    # Most common first; of equally common ones the first that was loaded.
    wanted = frozenset(options)
    counts = Counter(labels for name, labels in sets.items() if name not in foreign)
    shared = max(counts, key=lambda labels: (labels == wanted, counts[labels]), default=frozenset())
    for name, labels in sets.items():
        if name not in foreign and labels != shared:
            yield name, f"its labels {sorted(labels)} are not those of the panel, {sorted(shared)}"


def write_panel(folder: Path, retriever: str) -> None:
    """Name the retriever of the panel in a folder ``FOLDER/TASK``, atomically."""
    with replacing(folder / PANEL_FILE) as fresh:
        fresh.write_text(json.dumps({"retriever": retriever}, indent=2) + "\n", encoding="utf-8")
