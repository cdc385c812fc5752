"""``python -m gsco.evals``: replay a data set, and report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperGroup

from ..agent.failures import exit_code, one_line
from ..errors import ConfigurationError, GscoError
from .datasets.example import Wanted

SOME_FAILED = 3
"""Exit status of a run that came to its end with cases that have no answer."""


class _Commands(TyperGroup):
    """The boundary where an error becomes one line on stderr and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except GscoError as error:
            typer.secho(one_line(error), err=True, fg=typer.colors.RED)
            raise typer.Exit(exit_code(error)) from None


app = typer.Typer(
    name="gsco.evals",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Research software. Not a medical device; not for clinical use.",
)


@app.callback()
def _start() -> None:
    """Replay data sets through specialists, vote, neighbours, generalist and their collaboration."""
    from ..agent.quiet import silence_libraries

    silence_libraries()


@app.command()
def run(
    dataset: Annotated[
        Path,
        typer.Argument(metavar="DATASET", help="Folder per class, folder with labels.csv, or a csv file."),
    ],
    task: Annotated[
        str, typer.Option("--task", "-t", metavar="NAME", help="A closed task (see: gsco tasks).")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the run; go on if it is one.")
    ],
    arms: Annotated[
        str,
        typer.Option(
            metavar="A,B", help="Some arms only: specialists, vote, mean, knn, generalist, moed, rad, gsco."
        ),
    ] = "",
    split: Annotated[str, typer.Option(metavar="NAME", help="train, val or test.")] = "test",
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Only a random sample of so many cases.")
    ] = None,
    leaks: Annotated[
        str,
        typer.Option(metavar="HOW", help="refuse, exclude or drop: cases that the bank knows."),
    ] = "refuse",
    near_duplicates: Annotated[
        float | None, typer.Option(metavar="S", help="Do not retrieve known cases more similar than this.")
    ] = None,
    gate: Annotated[str, typer.Option(metavar="HOW", help="refuse, warn or off.")] = "warn",
    chunk: Annotated[
        int, typer.Option(metavar="N", help="Cases that are asked for and written together.")
    ] = 128,
    seed: Annotated[int, typer.Option(help="Of samples and drawn splits.")] = 0,
) -> None:
    """Replay a data set and report. The same command goes on with a run that was stopped.

    Specialists, store, generalist, profile and k are those of the settings (GSCO_...).
    Exit status 3: the run came to its end, but some cases have no answer.
    """
    from ..agent.configuration import settings_from
    from .runner import run as run_dataset

    settings = settings_from()
    plan = _plan(
        arms=tuple(name.strip() for name in arms.split(",") if name.strip()),
        split=split,
        limit=limit,
        leaks=leaks,
        near_duplicates=near_duplicates,
        gate=gate,
        chunk=chunk,
        seed=seed,
        profile=settings.profile,
        neighbours=settings.neighbours,
    )
    finished = run_dataset(dataset, task, out, settings=settings, plan=plan)
    typer.echo(f"{finished.done} outcomes written to {out}, {finished.errors} of them errors", err=True)
    _report(out)
    if finished.errors:
        raise typer.Exit(SOME_FAILED)


@app.command()
def arbitration(
    cases: Annotated[
        list[str], typer.Argument(metavar="TASK=DATASET…", help="Tasks, each with the data set of its cases.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the suite; go on if it is one.")
    ],
    split: Annotated[str, typer.Option(metavar="NAME", help="train, val or test.")] = "test",
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Only a random sample of so many cases per task.")
    ] = None,
    leaks: Annotated[
        str,
        typer.Option(metavar="HOW", help="refuse, exclude or drop: cases that the bank knows."),
    ] = "refuse",
    chunk: Annotated[
        int, typer.Option(metavar="N", help="Cases that are asked for and written together.")
    ] = 128,
    seed: Annotated[int, typer.Option(help="Of samples and alterations.")] = 0,
) -> None:
    """Measure whose side the generalist takes when evidence, image and itself contradict each other.

    Specialists, store, generalist, profile and k are those of the settings (GSCO_...). The same command
    goes on with a suite that was stopped. Exit status 3: some cases have no answer.
    """
    from ..agent.configuration import settings_from
    from .arbitration.report import MARKDOWN, report
    from .arbitration.suite import run as run_suite

    settings = settings_from()
    plan = _plan(
        split=split, limit=limit, leaks=leaks, chunk=chunk, seed=seed,
        profile=settings.profile, neighbours=settings.neighbours,
    )  # fmt: skip
    for task, source in map(_pair, cases):
        run_suite(source, task, out / task, settings=settings, plan=plan)
    found = report(out)
    typer.echo((out / MARKDOWN).read_text(encoding="utf-8"), nl=False)
    if found.errors:
        raise typer.Exit(SOME_FAILED)


@app.command()
def curve(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Folders of finished suites.")],
) -> None:
    """Put finished arbitration suites side by side: what one generalist gains and another loses."""
    from .arbitration.report import curve as table

    typer.echo(table(folders), nl=False)


@app.command()
def abilities(
    cases: Annotated[
        list[str],
        typer.Argument(metavar="TASK=DATASET…", help="Tasks, each with the data set of its images."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the run; go on if it is one.")
    ],
    vqa: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Questions as VQA-RAD has them, images/ beside the file."),
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="train, val or test.")] = "test",
    limit: Annotated[int, typer.Option(metavar="N", help="A random sample of so many images per task.")] = 50,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
) -> None:
    """Measure tool choice, follow-ups answered from evidence, and closed questions.

    Specialists, store and generalist are those of the settings (GSCO_...). The same command goes on with
    a run that was stopped. Exit status 3: some cases have no answer.
    """
    from ..agent.configuration import settings_from
    from .abilities.report import MARKDOWN
    from .abilities.report import report as table
    from .abilities.suite import run as run_suite

    run_suite(
        dict(map(_pair, cases)), vqa, out, settings=settings_from(), split=split, limit=limit, seed=seed
    )
    failed = table(out)
    typer.echo((out / MARKDOWN).read_text(encoding="utf-8"), nl=False)
    if failed:
        raise typer.Exit(SOME_FAILED)


@app.command()
def leaks(
    cases: Annotated[
        list[str], typer.Argument(metavar="TASK=DATASET…", help="Tasks, each with the data set of its cases.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where to write what was found.")
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="train, val or test.")] = "test",
    against: Annotated[
        str,
        typer.Option(metavar="NAME", help="Compare with this split of the same data set, not with the bank."),
    ] = "",
) -> None:
    """Tell which cases the case bank knows: by image, by patient or group, and by how they look.

    The bank is that of the settings (GSCO_CASE_STORE). Exit status 1: it knows some for certain.
    """
    from ..agent.commands.train import command_of
    from ..agent.configuration import settings_from
    from .overlap import overlap, table, write_overlaps

    settings = settings_from()
    chosen, other = _split(split), _split(against) if against else None
    found = dict(overlap(source, task, chosen, settings, other) for task, source in map(_pair, cases))
    typer.echo("\n".join(table(found)))
    if out is not None:
        given = command_of(sys.argv[1:]).removeprefix("gsco ")
        write_overlaps(found, out, f"python -m gsco.evals {given}")
    if any(one.any for one in found.values()):
        raise typer.Exit(1)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run, or with those of several.")],
) -> None:
    """Score the runs of a folder: report.md and report.json there, and the tables on stdout."""
    _report(folder)


def _report(folder: Path) -> None:
    from .report import MARKDOWN, report

    report(folder)
    typer.echo((folder / MARKDOWN).read_text(encoding="utf-8"), nl=False)


def _split(given: str) -> Wanted:
    found: Wanted | None = next((one for one in get_args(Wanted) if one == given), None)
    if found is None:
        raise ConfigurationError(f"no split {given!r}; there are: {', '.join(get_args(Wanted))}")
    return found


def _pair(given: str) -> tuple[str, Path]:
    task, separator, source = given.partition("=")
    if not (task and separator and source):
        raise ConfigurationError(f"{given!r} does not name a task and its data set; write TASK=DATASET")
    return task, Path(source)


def _plan(**given: Any) -> Any:
    from pydantic import ValidationError

    from ..agent.configuration import plain
    from .replay import Plan

    try:
        return Plan(**given)
    except ValidationError as error:
        raise ConfigurationError(f"options: {plain(error)}") from None


if __name__ == "__main__":
    sys.exit(app())
