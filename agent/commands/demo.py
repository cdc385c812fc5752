"""``gsco demo``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from ...case import Diagnosis
    from ...models.mini.samples import Sample

    Shown = list[tuple[Sample, Diagnosis]]


def demo(
    task: Annotated[
        str | None, typer.Option("--task", "-t", metavar="TASK", help="Only the samples of this task.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Known cases from here, not from the bundled bank."),
    ] = None,
) -> None:
    """Diagnose the bundled sample images with the bundled models."""
    from rich.console import Console

    from ...errors import TaskUnknown
    from ...models.mini.samples import samples
    from ..terminal_output import print_diagnosis

    chosen = samples(task)
    if not chosen:
        known = sorted({sample.task for sample in samples()})
        raise TaskUnknown(f"there are no sample images of task {task!r}; there are for {', '.join(known)}")
    start, console = time.perf_counter(), Console()
    shown = _diagnose(chosen, store or "")
    console.print(_table(shown))
    right = sum(diagnosis.label == sample.label for sample, diagnosis in shown)
    seconds = time.perf_counter() - start
    console.print(
        f"\n{right} of {len(shown)} as labelled, in {seconds:.1f} s with loading. One case in full:\n"
    )
    sample, diagnosis = next((pair for pair in shown if pair[1].conflict.any), shown[0])
    print_diagnosis(diagnosis, console, title=f"{sample.file}, labelled {sample.label}")
    console.print(
        "\nThese are small models, bundled to show that everything runs; a few samples are no benchmark."
        "\nFor a real generalist set GSCO_GENERALIST_URL to a served medical vision-language model."
        "\nNext: gsco diagnose IMAGE, gsco tasks, gsco doctor.",
        style="dim",
        highlight=False,
    )


def _diagnose(chosen: list[Sample], store: str) -> Shown:
    """Diagnose the samples with what is bundled, whatever the environment says."""
    from ..api import GSCo

    shown: Shown = []
    with GSCo.from_settings(
        generalist_url="",
        generalist_model="",
        case_store=store,
        specialists=None,
        moed="prefer",
        rad="prefer",
    ) as gsco:
        for task in dict.fromkeys(sample.task for sample in chosen):
            of_task = [sample for sample in chosen if sample.task == task]
            found = gsco.diagnose_many([sample.path for sample in of_task], task=task, progress=True)
            shown += zip(of_task, found, strict=True)
    return shown


def _table(shown: Shown) -> Table:
    from rich.table import Table
    from rich.text import Text

    from ..terminal_output import conflict_words, share, verdict_mark

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("image", "labelled", "diagnosis"):
        table.add_column(heading)
    for heading in ("confidence", "panel", "similar"):
        table.add_column(heading, justify="right")
    table.add_column("conflict", style="yellow")
    for sample, diagnosis in shown:
        right = diagnosis.label == sample.label
        table.add_row(
            Text(sample.file),
            Text(sample.label),
            Text(verdict_mark(diagnosis), style="green" if right else "red"),
            share(diagnosis.confidence),
            share(diagnosis.conflict.panel_share),
            share(diagnosis.conflict.similar_share),
            conflict_words(diagnosis),
        )
    return table
