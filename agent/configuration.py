"""Reads the settings so that a mistake in them reads as one plain sentence."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..disk import read_file
from ..errors import ConfigurationError, UnknownArgument

if TYPE_CHECKING:
    from pydantic import ValidationError

    from ..settings import Settings

_PREFIX = "GSCO_"
_MAX_BYTES = 2**20
_CLOSE = 0.88
"""Variables for other purposes, such as ``GSCO_TEST_DATASETS``, are less like any setting's name."""
RENAMED = {"GSCO_THREADS": "torch_threads"}
"""Old variables that still work in this version, with the setting that each of them means now."""


T = TypeVar("T")


class RenamedVariable(FutureWarning):
    """An environment variable has a new name; the old one stops working with the next version."""


def settings_from(**given: object) -> Settings:
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
    _check_file(Settings.model_config.get("env_file"))
    try:
        fields: dict[str, Any] = {**_renamed(Settings.model_config.get("env_file")), **given}
        return Settings(**fields)
    except ValidationError as error:
        raise ConfigurationError(f"settings: {plain(error, prefix='GSCO_')}") from None


def _check_file(name: object) -> None:
    """Refuse a ``.env`` file that would be read in part: keys in a line that is left out protect nothing."""
    from dotenv.parser import parse_stream

    path = Path(str(name))
    if not path.is_file():
        return
    try:
        text = read_file(path, _MAX_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"{path} cannot be read; save it as UTF-8 text") from None
    for line in parse_stream(io.StringIO(text)):
        if line.error and _PREFIX in line.original.string:
            raise ConfigurationError(
                f"line {line.original.line} of {path} is not NAME=VALUE; look for a quote that is missing"
            )


def _misspelt(known: Collection[str]) -> list[str]:
    """Variables of the environment that are close to a setting's name, and are none."""
    names = [_PREFIX + name.upper() for name in known]
    ours = [name for name in os.environ if name.startswith(_PREFIX) and name not in {*names, *RENAMED}]
    return [name for name in ours if get_close_matches(name, names, n=1, cutoff=_CLOSE)]


def _renamed(file: object) -> dict[str, str]:
    """Values of old variables, in the environment or the ``.env`` file, that the new ones do not replace."""
    from dotenv import dotenv_values

    there = {**dotenv_values(str(file) if file else None, encoding="utf-8-sig"), **os.environ}
    values: dict[str, str] = {}
    for old, setting in RENAMED.items():
        new, value = _PREFIX + setting.upper(), there.get(old)
        if value is not None:
            warnings.warn(f"{old} is now called {new}; set {new} instead", RenamedVariable, stacklevel=3)
            if new not in there:
                values[setting] = value
    return values


def only_given(**options: T | None) -> dict[str, T]:
    """Keep the options that were given on the command line: those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def plain(error: ValidationError, *, prefix: str = "") -> str:
    """Say which fields are wrong and why, without the values (they may be secret)."""
    names = (".".join(map(str, entry["loc"])) for entry in error.errors())
    shown = (name.upper() if prefix else name for name in names)
    reasons = (entry["msg"][:1].lower() + entry["msg"][1:] for entry in error.errors())
    return "; ".join(f"{prefix}{name}: {reason}" for name, reason in zip(shown, reasons, strict=True))
