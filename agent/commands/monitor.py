"""``gsco monitor``."""

from __future__ import annotations

from typing import Annotated

import typer


def monitor(
    reset: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="Begin a new watch of this task; its numbers are deleted."),
    ] = None,
) -> None:
    """Check recent cases for drift from the fitted ones.

    No labels are needed: the uncertainty of the specialists and the distance to the known cases are compared
    with those of the cases of the fit. Exit status 3: drift was found.
    """
    from rich.console import Console
    from rich.table import Table

    from ..api import GSCo
    from ..terminal_output import plain

    with GSCo.from_settings() as gsco:
        watch = gsco.monitor
        assert watch is not None, "settings always name one"
        if reset is not None:
            gsco.tasks.get(reset)
            watch.reset(reset)
            typer.echo(f"A new watch of {reset} has begun.")
        table, rang = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim"), False
        for heading in ("task", "cases", "fit", "state"):
            table.add_column(heading)
        for name in gsco.tasks.names():
            fit = gsco.fits(name)
            if fit is None:
                continue
            alarm = watch.alarm(name, fit)
            rang = rang or alarm is not None
            state = watch.words(name, fit) or "no alarm"
            table.add_row(plain(name), str(watch.count(name, fit)), fit.version, plain(state))
    if not table.row_count:
        typer.echo(
            "No task has a fit, so that there is nothing to watch: run `gsco fit TASK --dataset FOLDER`."
        )
        return
    Console().print(table)
    typer.echo(f"GSCO_DRIFT={watch.policy}")
    if rang:
        raise typer.Exit(3)
