"""``gsco store``: stores of known cases."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .labelled_images import Data, LabelColumn, PathColumn, read_labelled_images
from .store_maintenance import backup, move, open_address, restore, verify

if TYPE_CHECKING:
    from ...models.specialist.panel import Panel
    from ...models.specialist.specialist import TimmSpecialist
    from ...settings import Settings
    from ...tools.indexing import IndexReport

store = typer.Typer(
    name="store", help="Build, show, copy and back up stores of known cases.", no_args_is_help=True
)
for command in (move, verify, backup, restore):
    store.command()(command)

TaskName = Annotated[
    str, typer.Option("--task", "-t", metavar="TASK", help="Task that the data set's labels answer.")
]
Store = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="The case store; GSCO_CASE_STORE if not given.")
]
Names = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Specialists whose embeddings to use; repeatable, or: all."),
]


@store.command("build")
def build(
    dataset: Data,
    task: TaskName,
    store: Store = None,
    specialists: Names = None,
    split: Annotated[str, typer.Option(metavar="SPLIT", help="train, val or test.")] = "train",
    per_label: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Maximum number of cases per label.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Draws those, and splits that are not given.")] = 0,
    thumbnail: Annotated[
        int, typer.Option(metavar="N", min=0, help="Longest side of the small image that is kept; 0: none.")
    ] = 64,
    ray: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Share the work of a Ray cluster: its address, auto, or local."),
    ] = "",
    workers: Annotated[int, typer.Option(metavar="N", min=0, help="Ray workers; 0: one per processor.")] = 0,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
) -> None:
    """Add the images of a data set to a case store.

    After an interruption the same command continues. Without --specialists the embeddings are those of the
    specialist that retrieval uses for the task, and of one on the shared backbone, which recognises images
    of another kind. A case that is already in the store is not added again. With --ray the images are read
    and embedded by the machines of a cluster, which need gsco and the data set's folder under the same path.
    """
    from contextlib import closing

    from ...errors import ConfigurationError
    from ...models.splits import SPLITS
    from ..builds import task_book
    from ..configuration import settings_from

    settings = settings_from()
    if split not in SPLITS:
        raise ConfigurationError(f"no split {split!r}; available: {', '.join(SPLITS)}")
    card = task_book(settings).get(task)
    panel = _panel(settings, task)
    chosen = _members(panel, specialists or _searching(panel))
    images = read_labelled_images(
        dataset, settings, task, seed=seed, path_column=path_column, label_column=label_column
    )
    address = store or settings.case_store or str(settings.home / "cases")
    with closing(open_address(address, settings, writable=True)) as cases:
        indexed = _indexing(ray, workers, address, settings)
        report = indexed(
            images, card, chosen, cases, split=split, per_label=per_label, seed=seed, thumbnail=thumbnail
        )
    _report(report, address)
    if not store and not settings.case_store:
        typer.echo(f"To use it: export GSCO_CASE_STORE={address}")


@store.command("show")
def show(store: Store = None) -> None:
    """Show what a case store holds."""
    from contextlib import closing

    from ..configuration import settings_from

    settings = settings_from()
    address = store or settings.case_store
    with closing(open_address(address, settings)) as cases:
        typer.echo(f"{address or 'the bundled bank'}: {cases.count()} cases")
        for task, count in cases.tasks().items():
            typer.echo(f"  task {task}: {count} cases")
        for encoder, width in cases.encoders().items():
            typer.echo(f"  encoder {encoder}: {width} numbers per image")


@store.command("retriever")
def retriever(
    dataset: Data,
    task: TaskName,
    store: Store = None,
    specialists: Names = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Draws the splits if there are none.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of specialists: note the choice for it there."),
    ] = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
) -> None:
    """Compare the specialists' embeddings for retrieval.

    Measured on the validation split: how often the similar cases have the right label.
    """
    from contextlib import closing

    from ...models.specialist.panel import write_panel
    from ...tools.retriever import choose_retriever
    from ..configuration import settings_from

    settings = settings_from()
    panel = _panel(settings, task)
    candidates = _members(panel, specialists or ["all"])
    images = read_labelled_images(
        dataset, settings, task, seed=seed, path_column=path_column, label_column=label_column
    )
    with closing(open_address(store or settings.case_store, settings)) as cases:
        choice = choose_retriever(images, candidates, cases, task=task)
    typer.echo(f"{choice.queries} queries, {choice.k} cases each:")
    for score in choice.scores:
        numbers = f"label agreement {score.agreement:.3f}, vote {score.vote:.3f}"
        typer.echo(f"  {score.specialist} ({score.encoder}): {numbers}")
    if out is not None:
        write_panel(out / task, choice.retriever)
        typer.echo(f"{task} now searches with {choice.retriever}")


@store.command("export")
def export(
    bank: Annotated[Path, typer.Argument(metavar="BANK.npz", help="File to write; its card goes beside it.")],
    store: Store = None,
    encoder: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Whose vectors; repeatable. All if not given.")
    ] = None,
    thumbnails: Annotated[bool, typer.Option(help="Whether the small images go along.")] = True,
) -> None:
    """Export a case store as a bank of two plain files."""
    from contextlib import closing

    from ... import __version__
    from ...tools.stores.bank import write_bank
    from ..configuration import settings_from
    from .train import command_of

    settings = settings_from()
    with closing(open_address(store or settings.case_store, settings)) as cases:
        about = {"command": command_of(sys.argv[1:]), "gsco": __version__}
        card = write_bank(cases, bank, encoders=encoder, thumbnails=thumbnails, about=about)
    typer.echo(
        f"{card.cases} cases of {', '.join(card.tasks)} are in {bank} ({bank.stat().st_size / 1e6:.1f} MB)"
    )


@store.command("import")
def import_(
    bank: Annotated[
        Path | None, typer.Argument(metavar="BANK.npz", help="A bank; the bundled one if not given.")
    ] = None,
    store: Store = None,
) -> None:
    """Add the cases of a bank to a case store.

    Without a bank the bundled cases are added.
    """
    from contextlib import closing

    from ...errors import ConfigurationError
    from ...models.mini import bundled
    from ...tools.stores.bank import read_bank
    from ..configuration import settings_from

    settings = settings_from()
    address = store or settings.case_store
    if not address:
        raise ConfigurationError("name the case store with --store or GSCO_CASE_STORE")
    with closing(open_address(address, settings, writable=True)) as cases:
        new = cases.add(read_bank(bank or bundled("bank") / "bank.npz"))
        typer.echo(f"{address}: {new} cases added, {cases.count()} in all")


def _indexing(ray: str, workers: int, address: str, settings: Settings) -> Callable[..., IndexReport]:
    """What indexes: this process, or a cluster whose workers open the store anew to look into it."""
    from functools import partial

    if not ray:
        from ...tools.indexing import build_index

        return build_index
    from ...tools.distributed import build_index_on_ray

    place = address if "://" in address else str(Path(address).expanduser().absolute())
    reopen = partial(open_address, place, settings)
    return partial(build_index_on_ray, reopen=reopen, address=ray, workers=workers)


def _panel(settings: Settings, task: str) -> Panel:
    """Load the specialists of a task, the bundled ones and the user's own."""
    from ...errors import SpecialistError
    from ..assembly import LazyPanels, specialist_folders

    panels = LazyPanels(specialist_folders(settings))
    if task not in panels:
        raise SpecialistError(
            f"task {task} has no specialist, and a case store needs its embedding: first run "
            f"gsco train specialist --dataset DATASET --task {task}, and set GSCO_SPECIALISTS"
        )
    return panels[task]


def _searching(panel: Panel) -> list[str]:
    """Name the members by whose embeddings similar cases and images of another kind are found."""
    from ...tools.retrieval import SHARED_ENCODER

    shared = [name for name, member in panel.members.items() if member.card.encoder == SHARED_ENCODER]
    return list(dict.fromkeys([panel.retriever, *shared[:1]]))


def _members(panel: Panel, names: Sequence[str]) -> list[TimmSpecialist]:
    from ...errors import ConfigurationError

    if list(names) == ["all"]:
        names = list(panel.members)
    unknown = [name for name in names if name not in panel.members]
    if unknown:
        known = ", ".join(panel.members) or "none that loads; gsco doctor says why"
        raise ConfigurationError(f"no specialist {unknown[0]!r} for this task; available: {known}")
    return [panel.members[name] for name in names]


def _report(report: IndexReport, address: str) -> None:
    typer.echo(f"{address}: {report.added} cases added, {report.completed} completed, {report.kept} kept")
    notes = {
        "left out as the same picture as another": report.duplicates,
        "known with other labels, which they keep": len(report.relabelled),
        "left out as unreadable": len(report.broken),
    }
    for what, count in notes.items():
        if count:
            typer.echo(f"  {count} images {what}")
