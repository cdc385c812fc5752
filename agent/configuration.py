"""Reads the settings so that a mistake in them reads as one plain sentence."""

from __future__ import annotations

import os
from collections.abc import Collection
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, UnknownArgument

if TYPE_CHECKING:
    from pydantic import ValidationError

    from ..settings import Settings

_PREFIX = "GSCO_"
_CLOSE = 0.88
"""Variables for other purposes, such as ``GSCO_TEST_DATASETS``, are less like any setting's name."""


def settings_from(**given: Any) -> Settings:
    """Read the settings from the environment; what is given goes before it.

    Raises:
        UnknownArgument: there is no such setting.
        ConfigurationError: a variable or a given value does not fit.
    """
    from pydantic import ValidationError

    from ..settings import Settings

    if unknown := [name for name in given if name not in Settings.model_fields]:
        raise UnknownArgument.of(unknown, Settings.model_fields, "setting")
    if misspelt := _misspelt(Settings.model_fields):
        raise UnknownArgument.of(
            misspelt, [_PREFIX + name.upper() for name in Settings.model_fields], "setting"
        )
    try:
        return Settings(**given)
    except ValidationError as error:
        raise ConfigurationError(f"settings: {plain(error, prefix='GSCO_')}") from None


def _misspelt(known: Collection[str]) -> list[str]:
    """Variables of the environment that are close to a setting's name, and are none."""
    names = [_PREFIX + name.upper() for name in known]
    ours = [name for name in os.environ if name.startswith(_PREFIX) and name not in names]
    return [name for name in ours if get_close_matches(name, names, n=1, cutoff=_CLOSE)]


def only_given(**options: Any) -> dict[str, Any]:
    """Keep the options that were given on the command line: those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def plain(error: ValidationError, *, prefix: str = "") -> str:
    """Say which fields are wrong and why, without the values (they may be secret)."""
    names = (".".join(map(str, entry["loc"])) for entry in error.errors())
    shown = (name.upper() if prefix else name for name in names)
    reasons = (entry["msg"][:1].lower() + entry["msg"][1:] for entry in error.errors())
    return "; ".join(f"{prefix}{name}: {reason}" for name, reason in zip(shown, reasons, strict=True))
