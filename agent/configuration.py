"""Reads the settings so that a mistake in them reads as one plain sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from ..settings import Settings


def settings_from(**given: Any) -> Settings:
    """Read the settings from the environment; what is given goes before it.

    Raises:
        ConfigurationError: a variable or a given value does not fit.
    """
    from pydantic import ValidationError

    from ..settings import Settings

    try:
        return Settings(**given)
    except ValidationError as error:
        raise ConfigurationError(f"settings: {plain(error, prefix='GSCO_')}") from None


def only_given(**options: Any) -> dict[str, Any]:
    """Keep the options that were given on the command line: those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def plain(error: ValidationError, *, prefix: str = "") -> str:
    """Say which fields are wrong and why, without the values (they may be secret)."""
    names = (".".join(map(str, entry["loc"])) for entry in error.errors())
    shown = (name.upper() if prefix else name for name in names)
    reasons = (entry["msg"][:1].lower() + entry["msg"][1:] for entry in error.errors())
    return "; ".join(f"{prefix}{name}: {reason}" for name, reason in zip(shown, reasons, strict=True))
