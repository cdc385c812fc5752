"""Labelled images on the command line: read, checked against the task's card, and told as a table first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ...models.dataset import Dataset
    from ...settings import Settings

DATASET_HELP = (
    "A folder per class, a table (csv, jsonl), a COCO or Label Studio export, or a folder with one of them."
)
Data = Annotated[Path, typer.Argument(metavar="DATASET", help=DATASET_HELP)]
PathColumn = Annotated[
    str | None,
    typer.Option("--path-column", metavar="NAME", help="Column of a table that names the images."),
]
LabelColumn = Annotated[
    str | None, typer.Option("--label-column", metavar="NAME", help="Column of a table that holds the label.")
]


def read_labelled_images(
    source: Path,
    settings: Settings,
    task: str,
    *,
    seed: int = 0,
    path_column: str | None = None,
    label_column: str | None = None,
) -> Dataset:
    """Read a data set for a task and print what was understood, to standard error.

    Where the task has a card, its options are the labels that are accepted; a new task may have none yet.

    Raises:
        ConfigurationError: the data set is wrong, or does not fit the card.
    """
    from ...models.dataset import Columns, read_dataset
    from ...tasks import TaskBook

    book = TaskBook(settings.tasks)
    card = book.get(task) if task in book else None
    images = read_dataset(
        source,
        seed=seed,
        task=card,
        columns=Columns(path_column, label_column),
        draw_validation=True,
    )
    typer.echo(images.table(), err=True)
    if card is None:
        typer.echo(f"  note     task {task} has no card, so its labels are not checked", err=True)
    return images
