"""Commands of other packages: whoever declares an entry point in the group ``gsco.commands`` adds one.

The entry point names a typer application, whose module should be light: it is loaded for the help. This is
also how the parts of gsco that build on the command, and so may not be imported by it, are reached from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from typer.core import TyperGroup

from ..errors import ConfigurationError

GROUP = "gsco.commands"


class PluggableGroup(TyperGroup):
    """A group of commands that also has those of other packages; its own go before them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands, its own ones first."""
        own = super().list_commands(ctx)
        return [*own, *(name for name in sorted(declared()) if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Find a command by its name; another package is loaded only if it is asked for.

        Raises:
            ConfigurationError: the package that declares it cannot be loaded.
        """
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in declared():
            return own
        return _loaded(cmd_name)


@cache
def declared() -> Mapping[str, EntryPoint]:
    """Entry points of the installed packages, by the name of the command."""
    return {point.name: point for point in entry_points(group=GROUP)}


@cache
def _loaded(name: str) -> Any:
    from typer.main import get_command

    point = declared()[name]
    try:
        app = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"the command {name!r} of {point.value} cannot be loaded ({error}); reinstall that package"
        ) from error
    command: Any = get_command(app)
    command.name = name
    return command
