"""``gsco build``: one command from a folder of labelled images to a measured collaboration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

if TYPE_CHECKING:
    from ...settings import Settings
    from .panel import Speed
    from .pipeline import Kind
    from .record import BuildRecord

app = typer.Typer(
    name="build",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def build(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            help="Labelled images: a folder per class, a table, a COCO or Label Studio export.",
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", "-n", metavar="NAME", help="Of the task that is made.")
    ] = ...,  # type: ignore[assignment]
    fast: Annotated[bool, typer.Option("--fast", help="Frozen backbones only: minutes on a CPU.")] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="Also networks trained from scratch.")] = False,
    kind: Annotated[
        str, typer.Option(metavar="auto|diagnosis|multilabel", help="Kind of task; auto: by its labels.")
    ] = "auto",
    max_error: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            min=0.001,
            max=0.999,
            help="Answer alone only where at most this share is certified to be wrong.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read the data, say what would be done and how long it takes.")
    ] = False,
    add: Annotated[
        bool, typer.Option("--add", help="Add FOLDER's images to the build; refused if it becomes worse.")
    ] = False,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="With --add: the specialists learn from the new images too.")
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Use the version before the current one.")
    ] = False,
    pdf: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the current version's report as PDF; builds nothing."),
    ] = None,
    title: Annotated[str, typer.Option(metavar="TEXT", help="What the task is called on the page.")] = "",
    modality: Annotated[
        str, typer.Option(metavar="TEXT", help="Wording for prompts, such as 'chest X-ray'.")
    ] = "",
    path_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of a table that names the images.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of a table that holds the label.")
    ] = None,
    subgroup: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of a table by which results are reported too, beside age, sex, site and the like.",
        ),
    ] = None,
    generalist: Annotated[
        bool, typer.Option("--generalist", help="Ask the generalist of the settings too when fitting.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Draws everything that is drawn.")] = 0,
) -> None:
    """Build a task from labelled images.

    It trains specialists, fills a case store, fits and certifies the decision rule, and writes a report.
    After an interruption the same command continues. The result lies in GSCO_HOME/builds/NAME, and
    `gsco diagnose IMAGE --task NAME`, the page and the server find it there, beside the bundled tasks.
    """
    from ...agent.configuration import settings_from
    from ...errors import ConfigurationError
    from ...models.dataset import Columns
    from .pipeline import BuildRequest, estimate_lines, read_inputs
    from .pipeline import build as run

    settings = settings_from()
    if rollback:
        _roll_back(settings, name)
        return
    if pdf is not None:
        _write_pdf(settings, name, pdf)
        return
    if folder is None:
        raise ConfigurationError("name the folder of labelled images: gsco build FOLDER --name NAME")
    if fast and thorough:
        raise ConfigurationError("--fast and --thorough cannot be combined")
    if retrain and not add:
        raise ConfigurationError("--retrain needs --add; without --add everything is trained anyway")
    speed: Speed = "fast" if fast else "thorough" if thorough else "usual"
    request = BuildRequest(
        name=name,
        folder=folder,
        speed=speed,
        kind=_kind(kind),
        max_error=max_error,
        title=title,
        modality=modality,
        columns=Columns(path_column, label_column, traits=tuple(subgroup or ())),
        seed=seed,
        generalist=generalist,
        add=add,
        retrain=retrain,
    )
    inputs = read_inputs(request, settings, _say)
    _say(estimate_lines(inputs))
    if dry_run:
        return
    _print(run(inputs, settings, _say), settings)


def _kind(given: str) -> Kind:
    from ...errors import ConfigurationError
    from .pipeline import Kind

    found: Kind | None = next((one for one in get_args(Kind) if one == given), None)
    if found is None:
        raise ConfigurationError(f"--kind must be one of {', '.join(get_args(Kind))}, not {given!r}")
    return found


def _roll_back(settings: Settings, name: str) -> None:
    from ...agent.builds import roll_back

    found = roll_back(settings.home, name)
    typer.echo(f"{name} is {found.version} again")


def _write_pdf(settings: Settings, name: str, path: Path) -> None:
    from ...agent.builds import REPORT, current_build
    from ...disk import writing
    from ...errors import ConfigurationError
    from .pdf import page_pdf

    found = current_build(settings.home, name)
    if found is None or not (found.folder / REPORT).is_file():
        raise ConfigurationError(
            f"there is no report of a build {name}; `gsco build FOLDER --name {name}` makes one"
        )
    content = page_pdf((found.folder / REPORT).read_text(encoding="utf-8"))
    with writing(path):
        path.write_bytes(content)
    typer.echo(f"The report of {name} {found.version} is in {path}")


def _print(record: BuildRecord, settings: Settings) -> None:
    from ...agent.builds import REPORT, builds_folder

    folder = builds_folder(settings.home) / record.name / record.version
    typer.echo(record.verdict)
    if record.grown is not None:
        typer.echo(f"{record.grown.words} as {record.grown.before}.")
    for one in record.promises:
        typer.echo(f"At most {one.max_error:.0%} wrong: {one.words}")
    for note in record.notes:
        typer.echo(f"Note: {note}")
    typer.echo(f"Report: {folder / REPORT}")
    typer.echo(f"Next: gsco diagnose IMAGE --task {record.name}")


def _say(line: str) -> None:
    typer.echo(line, err=True)
