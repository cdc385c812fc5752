"""``gsco data``: the data report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .labelled_images import Data, LabelColumn, PathColumn


def data(
    dataset: Data,
    task: Annotated[
        str | None,
        typer.Option("--task", "-t", metavar="TASK", help="Task whose options the labels are."),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Do not look for label errors, which takes most of the time.")
    ] = False,
    json: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write every finding, with all its files, as JSON."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Draws splits and folds.")] = 0,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
) -> None:
    """Show how a data set is read, and what is wrong with it.

    Exit status 2: nothing can be trained on it.
    """
    from ...disk import writing
    from ...models.data.report import inspect
    from ...models.dataset import Columns
    from ..builds import task_book
    from ..configuration import settings_from
    from ..exit_codes import visible

    card = task_book(settings_from()).get(task) if task else None
    report = inspect(
        dataset, task=card, columns=Columns(path_column, label_column), seed=seed, embed=not fast
    )
    typer.echo(visible(report.table()))
    if json is not None:
        with writing(json):
            json.write_text(report.to_json(), encoding="utf-8")
    report.check()
