"""``gsco train``: specialists, generalists, and what they are trained on."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import ConfigurationError
from .labelled_images import DATASET_HELP, Data, LabelColumn, PathColumn, read_labelled_images

if TYPE_CHECKING:
    from ...models.specialist.card import SpecialistCard
    from ...models.specialist.recipe import TrainingConfig

train = typer.Typer(name="train", help="Train specialists and generalists.", no_args_is_help=True)

PROBE = {"architecture": "tf_efficientnet_lite0", "init": "efficientnet_lite0", "trainable": "head"}
"""What is trained unless told otherwise: a logistic head on the bundled backbone, in minutes on a CPU."""


@train.command("specialist")
def specialist(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG.toml", help="A recipe; options go before what it says.")
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(
            "--dataset",
            "-d",
            metavar="DATASET",
            help=DATASET_HELP,
        ),
    ] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", metavar="TASK", help="Task it is for.")] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to call it; the architecture if not given.")
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Architecture in timm; without it a probe on the bundled backbone is trained.",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS", help="First weights: scratch, timm (its hub), a file, or a backbone."
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="compact (default), or reference: the paper's recipe.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(metavar="N", help="Side of the network's input.")] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Maximum number.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Draws everything that is drawn.")] = None,
    evaluate_test: Annotated[
        bool | None, typer.Option("--test/--no-test", help="Whether the card reports the test split too.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where specialists go; GSCO_SPECIALISTS if not given."),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Replace what an earlier run left.")] = False,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
) -> None:
    """Train a specialist from labelled images.

    After an interruption the same command continues.
    """
    from ...models.specialist.card import SpecialistCard, read_card
    from ...models.specialist.training import train_specialist
    from ..configuration import only_given, settings_from

    settings = settings_from()
    options = only_given(
        data=dataset,
        task=task,
        name=name,
        architecture=arch,
        init=init,
        preset=preset,
        image_size=image_size,
        epochs=epochs,
        seed=seed,
        evaluate_test=evaluate_test,
    )
    place = out or settings.specialists or settings.home / "specialists"
    recipe = _recipe(config, options)
    images = read_labelled_images(
        recipe.data,
        settings,
        recipe.task,
        seed=recipe.seed,
        path_column=path_column,
        label_column=label_column,
        every_option=True,
    )
    folder = train_specialist(
        recipe, place, dataset=images, restart=restart, command=command_of(sys.argv[1:])
    )
    _report(folder, read_card(folder, SpecialistCard))
    if place != settings.specialists and out is None:
        typer.echo(f"To use it: export GSCO_SPECIALISTS={shlex.quote(str(place))}")


@train.command("generalist")
def generalist(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG.toml", help="Sources and stages, or a checkpoint to adapt; or: meddr."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder that the sources are relative to; for a checkpoint, collections."
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Checkpoint to adapt, or its hub id.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the model goes.")] = None,
    work: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where checkpoints go.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Earlier generalist to train further."),
    ] = None,
    tower: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Earlier generalist whose vision tower to take.")
    ] = None,
) -> None:
    """Train a small generalist, or adapt a MedDr-class one.

    After an interruption the same command continues.
    """
    from ...models.generalist.fine_tuning.config import RECIPES, is_fine_tuning, load_fine_tuning
    from ...models.generalist.training.config import load_config

    if not config.exists() and (RECIPES / f"{config}.toml").is_file():
        config = RECIPES / f"{config}.toml"
    if is_fine_tuning(config):
        if work or start or tower:
            raise ConfigurationError("--work, --start and --tower are for small generalists")
        adapted = load_fine_tuning(config, base=base, out=out, collections=None if data is None else [data])
        from ...models.generalist.fine_tuning.lora import fine_tune

        folder = fine_tune(adapted)
        typer.echo(f"The adapter is in {folder}")
        typer.echo(f"To merge it: gsco train merge {shlex.quote(adapted.base)} {folder} --out FOLDER")
        return
    if base is not None:
        raise ConfigurationError(f"{config} trains a small generalist from scratch and takes no checkpoint")

    # A mistake in the file is told before the libraries are loaded.
    settings = load_config(config, data=data, out=out, work=work, start=start, tower=tower)
    from ...models.generalist.training.loop import train_generalist

    folder = train_generalist(settings)
    typer.echo(f"{settings.name} is in {folder}")
    typer.echo(f"To use it: export GSCO_GENERALIST_MODEL={shlex.quote(str(folder))}")


@train.command("merge")
def merge(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Folder in MedDr's layout.")],
    adapter: Annotated[
        Path | None,
        typer.Argument(metavar="ADAPTER", help="Folder of the adapter; none where the checkpoint holds it."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The merged checkpoint.")] = ...,  # type: ignore[assignment]
) -> None:
    """Merge an adapter into its checkpoint.

    For servers that read merged weights only.
    """
    from ...models.generalist.fine_tuning.merging import merge as write

    typer.echo(f"The merged checkpoint is in {write(checkpoint, adapter, out)}")


@train.command("conversations")
def conversations(
    dataset: Data,
    task: Annotated[str, typer.Option("--task", "-t", metavar="TASK", help="What is asked of its images.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.jsonl", help="Conversations; FILE.json lists them.")
    ],
    split: Annotated[str, typer.Option(metavar="SPLIT", help="train, val or test.")] = "train",
) -> None:
    """Convert a data set to instruction data.

    The format is that of the conversations of InternVL and MedDr.
    """
    from ...models.generalist.conversations import (
        Collection,
        diagnosis_conversations,
        write_collection,
        write_conversations,
    )
    from ...models.generalist.prompts import prompt_profile
    from ..builds import task_book
    from ..configuration import settings_from

    settings = settings_from()
    card = task_book(settings).get(task)
    found = read_labelled_images(dataset, settings, task)
    made = diagnosis_conversations(found, card, prompt_profile(settings.profile), split)
    count = write_conversations(made, out)
    collection = out.with_suffix(".json")
    write_collection(
        Collection(f"{found.name}-{split}", found.folder.absolute(), out.absolute()), count, collection
    )
    typer.echo(f"{count} conversations are in {out}, and {collection} names them for a training")


@train.command("bootstrap")
def bootstrap(
    dataset: Data,
    task: Annotated[str, typer.Option("--task", "-t", metavar="TASK", help="Whose options its labels are.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.jsonl", help="Conversations; FILE.json lists them.")
    ],
    kind: Annotated[str, typer.Option(metavar="description|report", help="What is written.")] = "description",
    split: Annotated[str, typer.Option(metavar="SPLIT", help="train, val or test.")] = "train",
) -> None:
    """Generate image descriptions from labels.

    The generalist of the settings (GSCO_GENERALIST_...) describes each image given its label; descriptions
    that agree with the label are kept. After an interruption the same command continues.
    FILE.provenance.jsonl holds every text, with the reason where it was rejected.
    """
    from ...models.generalist.bootstrapping import GUIDED, Kind
    from ...models.generalist.bootstrapping import bootstrap as write
    from ..assembly import parts_of
    from ..builds import task_book
    from ..configuration import settings_from

    chosen: Kind | None = next((one for one in GUIDED if one == kind), None)
    if chosen is None:
        raise ConfigurationError(f"--kind must be one of {', '.join(GUIDED)}, not {kind!r}")
    settings = settings_from()
    card = task_book(settings).get(task)
    found = read_labelled_images(dataset, settings, task)
    parts = parts_of(settings)
    done = write(parts["generalist"](), found, card, parts["images"], out, split=split, kind=chosen)
    typer.echo(f"{done.kept} conversations are in {out}")
    for reason, count in sorted(done.refused.items(), key=lambda pair: -pair[1]):
        typer.echo(f"  {count} refused: {reason}")


@train.command("backbone")
def backbone(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where it goes.")],
) -> None:
    """Write the backbone of the bundled specialists.

    It needs gsco[train].
    """
    from ...models.specialist.backbone import save_backbone

    card = save_backbone(out)
    typer.echo(f"{card.name} ({card.architecture}) is in {out}")


@train.command("report-writer")
def report_writer(
    source: Annotated[
        str, typer.Argument(metavar="MODEL", help="Folder or hub id of an image-to-text model.")
    ],
    task: Annotated[str, typer.Option("--task", "-t", metavar="TASK", help="Task whose reports it drafts.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="What to call it.")],
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="What it is asked, or how reports begin.")] = "",
    max_new_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Longest report.")] = 256,
    licence: Annotated[str, typer.Option(metavar="NAME", help="Of the weights.")] = "",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of specialists; GSCO_SPECIALISTS if not given."),
    ] = None,
) -> None:
    """Add an image-to-text model to the panel of a task.

    The model, of transformers, drafts a report of each image.
    """
    from ...models.specialist.report import adopt_report_model
    from ..assembly import own_specialists
    from ..configuration import settings_from

    folder = out or next(iter(own_specialists(settings_from())), None)
    if folder is None:
        raise ConfigurationError("name the output folder with --out or GSCO_SPECIALISTS")
    card = adopt_report_model(
        source, folder, task=task, name=name, prompt=prompt, max_new_tokens=max_new_tokens, licence=licence
    )
    typer.echo(f"{card.task}/{card.name} ({card.architecture}) is in {folder / task / name}")


def _recipe(config: Path | None, options: dict[str, Any]) -> TrainingConfig:
    """Make the configuration of a recipe, or of the options alone."""
    from pydantic import ValidationError

    from ...errors import ConfigurationError
    from ...models.specialist.recipe import TrainingConfig
    from ..configuration import plain

    options = {**_licence_of(options.get("task")), **options}
    if config is not None:
        return TrainingConfig.from_toml(config, **options)
    if "data" not in options or "task" not in options:
        raise ConfigurationError("name what to train on: a CONFIG.toml, or --dataset and --task")
    if not {"architecture", "init", "preset"} & options.keys():
        options = {**PROBE, "name": "probe", **options}
    try:
        architecture = options.get("architecture", TrainingConfig.model_fields["architecture"].default)
        return TrainingConfig.model_validate({"name": _file_name(architecture), **options})
    except ValidationError as error:
        raise ConfigurationError(f"training: {plain(error)}") from None


def _file_name(architecture: str) -> str:
    """A name for a specialist of this architecture; ``hf-hub:OWNER/NAME`` gives ``NAME``."""
    return architecture.rpartition("/")[2] or architecture


def _licence_of(task: str | None) -> dict[str, str]:
    """Licence and source of a task's images, as its card states them; the specialist's card repeats them."""
    from ..builds import task_book
    from ..configuration import settings_from

    book = task_book(settings_from())
    if task not in book.names():
        return {}
    card = book.get(task)
    return {"licence": card.licence, "source": card.source}


def _report(folder: Path, card: SpecialistCard) -> None:
    typer.echo(f"{card.task}/{card.name} is in {folder}")
    for split, metrics in card.metrics.items():
        numbers = (
            f"{name} {metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]"
            for name, metric in metrics.items()
        )
        images = next((metric.n for metric in metrics.values()), None)
        over = f" ({images} images)" if images else ""
        typer.echo(f"  {split}{over}: {', '.join(numbers)}")


def command_of(arguments: Sequence[str]) -> str:
    """Write the command for the card, without folders that mean something on this machine only."""
    datasets = os.environ.get("GSCO_DATASETS", "")
    return " ".join(["gsco", *(_portable(argument, datasets) for argument in arguments)])


def _portable(argument: str, datasets: str) -> str:
    name, _, place = argument.partition("=")
    if place.startswith("/") and "/" not in name:
        return f"{shlex.quote(name)}={_portable(place, datasets)}"
    path = Path(argument)
    if not path.is_absolute():
        return shlex.quote(argument)
    if datasets and path.is_relative_to(datasets):
        return f"$GSCO_DATASETS/{shlex.quote(path.relative_to(datasets).as_posix())}"
    here = Path.cwd()
    return shlex.quote(path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name)
