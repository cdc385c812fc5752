"""From what a user names to a launch: bundled parts are looked up, and MedDr's layout is prepared first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import ConfigurationError
from .command import Launch
from .preparation import PLUGIN, is_prepared, prepare
from .profiles import ServingProfile, profile_named


def planned(
    model: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    quantization: str = "",
    extra: Sequence[str] = (),
) -> Launch:
    """What to start for a model; nothing is downloaded or written.

    Args:
        model: a profile's name, a folder, or a hub id.
        host: address to listen on.
        port: its port.
        quantization: for vLLM, or empty.
        extra: further flags for vLLM.

    Raises:
        ConfigurationError: the model is none of these.
    """
    profile = profile_named(model)
    launch = Launch(profile, _source(profile), host, port, quantization, tuple(extra))
    if not profile.prepared:
        return launch
    folder = Path(launch.model)
    return _of_prepared(launch, folder if is_prepared(folder) else Path(f"{profile.name}-prepared"))


def ready(launch: Launch, home: Path) -> Launch:
    """The launch with its model prepared, where it has to be; what was prepared once is used again.

    Args:
        launch: what is planned.
        home: folder for prepared models.

    Raises:
        ConfigurationError: the checkpoint cannot be served as it is, or cannot be downloaded.
    """
    profile = launch.profile
    if not profile.prepared or is_prepared(Path(launch.model)):
        return launch
    checkpoint = checkpoint_of(profile.source)
    known = hashlib.sha256(f"{checkpoint.resolve()} {_latest(checkpoint)}".encode()).hexdigest()[:8]
    folder = home / f"{profile.name}-{known}"
    if not is_prepared(folder):
        prepare(checkpoint, folder)
    return _of_prepared(launch, folder)


def checkpoint_of(source: str) -> Path:
    """The folder of a checkpoint, downloaded from the hub if it is no folder.

    Raises:
        ConfigurationError: it cannot be downloaded.
    """
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=["*.json", "*.safetensors", "tokenizer*"]))
    except Exception as error:  # the hub's client has errors of many kinds
        reason = f"{type(error).__name__}"
        raise ConfigurationError(
            f"{source} cannot be downloaded ({reason}); give the folder of a copy, or log in to the hub"
        ) from error


def _source(profile: ServingProfile) -> str:
    if profile.name == "mini" and profile.source == "generalist":
        from ..mini import bundled

        return str(bundled("generalist"))
    return profile.source


def _of_prepared(launch: Launch, folder: Path) -> Launch:
    return replace(launch, model=str(folder), plugin=folder / PLUGIN)


def _latest(folder: Path) -> int:
    """When a file of the folder was last changed."""
    return max(path.stat().st_mtime_ns for path in folder.iterdir())
