"""``gsco tasks``."""

from __future__ import annotations

from typing import Annotated

import typer


def tasks(
    as_json: Annotated[bool, typer.Option("--json", help="Print the task cards as one JSON array.")] = False,
) -> None:
    """List the tasks: built-in, your own (GSCO_TASKS) and builds."""
    from ..builds import task_book
    from ..configuration import settings_from
    from ..exit_codes import one_line

    book = task_book(settings_from())
    for error in book.wrong.values():
        typer.secho(one_line(error), err=True, fg=typer.colors.RED)
    if as_json:
        from pydantic import TypeAdapter

        from ...case import Task

        typer.echo(TypeAdapter(list[Task]).dump_json(list(book), indent=2).decode())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("task", "kind", "modality", "options"):
        table.add_column(heading, no_wrap=heading in ("task", "kind"))
    for task in book:
        options = ", ".join(task.options) or "–"
        table.add_row(Text(task.name), Text(task.kind), Text(task.modality), Text(options))
    Console().print(table)
