"""Whether a pack is whole and sound: hashes first, then every part as it would be used."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from ...case import Task
from ...errors import ConfigurationError, GscoError, SpecialistError, StoreError
from ...graphs.collaboration_fit import CollaborationFit, read_fit
from ...models.specialist.backbone import BUNDLED
from ...models.specialist.card import BackboneCard, SpecialistCard, read_card
from ...models.specialist.panel import Panel
from ...tools.stores.embedded import EmbeddedStore
from .archive import unpack
from .content import CASES, REPORT, TASK, Manifest
from .known_cases import read_packed_cases

_ACTIVE = re.compile(
    rb"<\s*(script|iframe|object|embed|form|base|link|meta[^>]+refresh)\b|\bon[a-z]+\s*=|javascript:"
    rb"|(src|href|url)\s*[=(]\s*[\"']?\s*(https?:)?//",
    re.IGNORECASE,
)
"""What would run or be fetched when a report is opened."""


@dataclass(frozen=True)
class CheckedPack:
    """An unpacked pack in which everything is sound."""

    folder: Path
    manifest: Manifest
    task: Task
    panel: Panel
    fit: CollaborationFit | None
    cases: int
    """Known cases."""

    @property
    def specialists(self) -> Path:
        """Folder of specialists, laid out as ``TASK/NAME``."""
        return self.folder / "specialists"

    @property
    def store(self) -> Path:
        """File of the case store; not there where the pack has no known cases."""
        return self.folder / "cases.sqlite"


@contextmanager
def checked_pack(path: Path, scratch: Path | None = None) -> Generator[CheckedPack]:
    """Unpack a pack and check every part, for the time of a ``with`` block.

    Args:
        path: of the pack.
        scratch: folder in which it is unpacked; None means that of the system.

    Raises:
        ConfigurationError: the pack is damaged, was changed, or holds what must not be used.
    """
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".pack-", dir=scratch) as name:
        folder = Path(name)
        manifest = unpack(path, folder)
        try:
            yield _checked(folder, manifest)
        except (SpecialistError, StoreError) as error:
            raise ConfigurationError(f"{path.name} cannot be used: {error}") from error


def _checked(folder: Path, manifest: Manifest) -> CheckedPack:
    task = _task(folder, manifest)
    _check_report(folder / REPORT)
    names = {path.name for path in (folder / "specialists").glob("*")}
    if names != {task.name}:
        raise ConfigurationError(f"the pack of {task.name} holds specialists of {', '.join(sorted(names))}")
    panel = _panel(folder / "specialists", task, manifest)
    fit = _fit(folder / "specialists", task, panel)
    cases = _fill_store(folder, task)
    return CheckedPack(folder, manifest, task, panel, fit, cases)


def _task(folder: Path, manifest: Manifest) -> Task:
    try:
        task = Task.model_validate_json((folder / TASK).read_bytes())
    except ValidationError as error:
        raise ConfigurationError(f"the task card of the pack is wrong: {error.errors()[0]['msg']}") from error
    if task.name != manifest.name or not task.kind.closed:
        raise ConfigurationError(f"the pack's task card is for {task.name}, its manifest for {manifest.name}")
    return task


def _check_report(path: Path) -> None:
    if path.is_file() and (found := _ACTIVE.search(path.read_bytes())):
        raise ConfigurationError(
            f"the report of the pack would run or fetch something: {found.group().decode(errors='replace')!r}"
        )


def _panel(specialists: Path, task: Task, manifest: Manifest) -> Panel:
    for name, sha256 in manifest.backbones.items():
        _check_backbone(name, sha256)
    for home in sorted((specialists / task.name).glob("*/")):
        card = read_card(home, SpecialistCard)
        if card.base is not None and manifest.backbones.get(card.base.name) != card.base.sha256:
            raise ConfigurationError(
                f"specialist {card.name} needs a backbone that the manifest does not name"
            )
    panel = Panel.load(task.name, [specialists], options=task.options)
    if panel.missing:
        raise ConfigurationError(f"{panel.missing[0].source} of the pack: {panel.missing[0].reason}")
    if not panel.members:
        raise ConfigurationError("the pack holds no specialist")
    return panel


def _check_backbone(name: str, sha256: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ConfigurationError("a backbone's name is letters, digits and _.-; it is not a path")
    try:
        own = read_card(BUNDLED / name, BackboneCard).weights.sha256
    except SpecialistError:
        own = ""
    if own != sha256:
        raise ConfigurationError(
            f"the pack needs the backbone {name} {sha256[:12]}, and this gsco has {own[:12] or 'none'}; "
            "use the version of gsco that wrote the pack"
        )


def _fit(specialists: Path, task: Task, panel: Panel) -> CollaborationFit | None:
    fit = read_fit([specialists], task.name)
    if fit is None:
        return None
    if fit.task != task.name or not fit.holds_for(task):
        raise ConfigurationError(f"the fit of the pack is not of its task {task.name}")
    for name, version in fit.parts.specialists.items():
        member = panel.members.get(name)
        if member is None or not member.card.weights.sha256.startswith(version):
            raise ConfigurationError(f"the fit of the pack was made for another specialist {name}")
    return fit


def _fill_store(folder: Path, task: Task) -> int:
    """Make the case store of the known cases, which checks every vector, and return their number."""
    if not (folder / CASES).is_file():
        return 0
    try:
        with EmbeddedStore(folder / "cases.sqlite") as store:
            store.add(read_packed_cases(folder, task))
            store.seal()
            return store.count()
    except GscoError as error:
        raise ConfigurationError(f"the known cases of the pack cannot be used: {error}") from error
