"""Serving a generalist with vLLM: what each model needs, the command line, and the process."""

from __future__ import annotations

from .profiles import PROFILES, ServingProfile, profile_named, profile_of

__all__ = ["PROFILES", "ServingProfile", "profile_named", "profile_of"]
