"""The command ``gsco``."""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, Any

import typer

from .. import __version__
from ..disk import disk_error
from ..errors import GscoError
from . import commands
from .exit_codes import exit_code, one_line
from .plugins import PluggableGroup
from .shutdown import Terminated, handle_sigterm

_ORDER = (
    *("demo", "doctor", "diagnose", "ui", "tasks", "build", "train", "store", "fit", "eval"),
    *("serve", "mcp", "conversations", "monitor", "forget"),
)
"""Commands in the order in which a new user needs them; others follow."""
RENAMED = {"index": "store", "threads": "conversations"}
"""Old names of commands, which still work in this version."""


class _Commands(PluggableGroup):
    """The commands in order; an error becomes one line on stderr and an exit status."""

    def list_commands(self, ctx: object) -> list[str]:
        """Names of all commands, in order of use."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Find a command by its name, or by its old one."""
        if (new := RENAMED.get(cmd_name)) is None:
            return super().get_command(ctx, cmd_name)
        if not ctx.resilient_parsing:
            typer.secho(f"gsco {cmd_name} is now called gsco {new}; use gsco {new}", err=True)
        return super().get_command(ctx, new)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except GscoError as error:
            typer.secho(one_line(error), err=True, fg=typer.colors.RED)
            raise typer.Exit(exit_code(error)) from None
        except OSError as error:
            if (problem := disk_error(error)) is None:
                raise
            typer.secho(one_line(problem), err=True, fg=typer.colors.RED)
            raise typer.Exit(exit_code(problem)) from None
        except Terminated:
            typer.secho("gsco: ended by SIGTERM", err=True)
            raise typer.Exit(0) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Research software. Not a medical device; not for clinical use.",
)


def _add_commands() -> None:
    """Add each module of ``commands`` that holds a command or a group of the module's own name."""
    for module in iter_modules(commands.__path__):
        found = getattr(import_module(f"{commands.__name__}.{module.name}"), module.name, None)
        if isinstance(found, typer.Typer):
            app.add_typer(found)
        elif callable(found):
            app.command()(found)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gsco {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Diagnose medical images with a generalist that consults specialists and similar known cases."""
    from .library_output import silence_libraries

    handle_sigterm()
    silence_libraries()


_add_commands()

if __name__ == "__main__":
    sys.exit(app())
