"""From what a user names to a launch: bundled parts are looked up, and folders are looked over first."""

from __future__ import annotations

from collections.abc import Sequence

from .command import Launch
from .profiles import ServingProfile, profile_named


def planned(
    model: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    quantization: str = "",
    extra: Sequence[str] = (),
) -> Launch:
    """What to start for a model.

    Args:
        model: a profile's name, a folder, or a hub id.
        host: address to listen on.
        port: its port.
        quantization: for vLLM, or empty.
        extra: further flags for vLLM.

    Raises:
        ConfigurationError: the model is none of these, or its folder cannot be served as it is.
    """
    profile = profile_named(model)
    return Launch(profile, _source(profile), host, port, quantization, tuple(extra))


def _source(profile: ServingProfile) -> str:
    if profile.name == "mini" and profile.source == "generalist":
        from ..mini import bundled

        return str(bundled("generalist"))
    return profile.source
