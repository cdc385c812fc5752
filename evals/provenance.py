"""What a run was made with: the parts that its numbers depend on, their hashes, and the machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from pydantic import JsonValue

from .. import __version__
from ..case import Task

if TYPE_CHECKING:
    from ..models.generalist.protocol import Generalist
    from ..models.specialist.panel import Panel
    from ..settings import Settings

Part = Mapping[str, JsonValue]

_PACKAGES = (
    "langchain-core",
    "langgraph",
    "numpy",
    "scikit-learn",
    "scipy",
    "timm",
    "torch",
    "transformers",
)


def data_part(sha256: str, split: str, task: Task) -> Part:
    """Describe what is asked of which images."""
    return {"sha256": sha256, "split": split, "task": task.model_dump(mode="json")}


def panel_part(panel: Panel | None) -> Part:
    """Describe the specialists."""
    if panel is None:
        return {"members": {}, "missing": []}
    return {
        "members": {name: member.card.weights.sha256[:12] for name, member in panel.members.items()},
        "missing": [missing.source for missing in panel.missing],
    }


def generalist_parts(generalist: Generalist | None, profile: str) -> dict[str, Part]:
    """Describe the generalist, and how it is asked."""
    from ..models.generalist.prompts import PROFILES

    if generalist is None:
        return {"generalist": {}, "profile": {}}
    return {
        "generalist": {"name": generalist.name, "version": generalist.version},
        "profile": {"profile": f"{profile}@{PROFILES[profile].hash}"},
    }


def generalist_cards(settings: Settings) -> dict[str, JsonValue]:
    """The card of the generalist that the settings name, where it lies beside its weights."""
    from pathlib import Path

    from ..models.mini import bundled

    if settings.generalist_url:
        return {}
    folder = Path(settings.generalist_model) if settings.generalist_model else bundled("generalist")
    card = folder / "card.json"
    return {"card": json.loads(card.read_bytes())} if card.is_file() else {}


def configuration_hash(configuration: Mapping[str, Part], parts: Iterable[str]) -> str:
    """Hash the named parts and the data, in twelve hex digits."""
    chosen = {name: configuration[name] for name in {"data", *parts}}
    text = json.dumps(chosen, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def versions() -> dict[str, str]:
    """Versions of gsco, Python and of the packages that compute."""
    found = {"gsco": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """What kind of machine it is; never which one."""
    import torch

    found = {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": str(os.cpu_count()),
        "torch threads": str(torch.get_num_threads()),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    if torch.cuda.is_available():
        found["accelerator"] = torch.cuda.get_device_name(0)
    return found
