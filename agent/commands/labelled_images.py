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
    every_option: bool = False,
) -> Dataset:
    """Read a data set for a task and print what was understood, to standard error.

    Where the task has a card, its options are the labels that are accepted; a new task may have none yet.

    Args:
        source: see ``read_dataset``.
        settings: name the folder of cards.
        task: name of the task.
        seed: draws the splits that are not given.
        path_column: of a table, where it has another name.
        label_column: likewise.
        every_option: whether each option of the card must occur, as the specialists of a task need it.

    Raises:
        ConfigurationError: the data set is wrong, or does not fit the card.
    """
    from ...errors import ConfigurationError
    from ...models.dataset import Columns, read_dataset
    from ..builds import task_book
    from ..exit_codes import visible

    book = task_book(settings)
    card = book.get(task) if task in book else None
    images = read_dataset(
        source,
        seed=seed,
        task=card,
        columns=Columns(path_column, label_column),
        draw_validation=True,
    )
    typer.echo(visible(images.table()), err=True)
    missing = set(card.options) - set(images.labels) - {card.negative} if card is not None else set()
    if every_option and missing:
        raise ConfigurationError(
            f"data set {images.name} has no image of {', '.join(sorted(missing))}, an option of task {task}; "
            "a specialist must know every option: add images, or write a card with fewer options"
        )
    if card is None:
        typer.echo(f"  note     task {task} has no card, so its labels are not checked", err=True)
    return images
