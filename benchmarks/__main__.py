"""``python -m gsco.benchmarks COMMAND``: studies of the project's own models and data sets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from ..errors import ConfigurationError, GscoError
from ..evals.commands import Pairs, pair, settings_with

if TYPE_CHECKING:
    from ..evals.datasets.example import Wanted

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode=None)

Seed = Annotated[int, typer.Option(help="Of the bootstrap, and of splits that are drawn.")]


@app.command()
def priors(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="What the specialists were trained on.")],
    specialist: Annotated[
        list[Path],
        typer.Option("--specialist", "-s", metavar="FOLDER", help="One of two labels; repeatable."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the numbers go.")],
    seed: Seed = 0,
) -> None:
    """Measure the accuracy recovered by shifting the threshold or re-estimating the class prior."""
    from ..models.dataset import read_dataset
    from ..models.specialist.specialist import TimmSpecialist
    from .priors import priors as compare_rules
    from .priors import table, write_priors

    images = read_dataset(dataset, seed=seed)
    found = [compare_rules(TimmSpecialist.load(folder), images, seed=seed) for folder in specialist]
    write_priors(found, out, _command())
    typer.echo("\n".join(table(found)))


@app.command()
def published(
    folder: Annotated[Path | None, typer.Argument(metavar="FOLDER", help="Folder of our runs.")] = None,
) -> None:
    """Print published numbers beside those of our runs on the same sets."""
    from .published import beside

    typer.echo(beside(folder), nl=False)


@app.command()
def separation(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a finished arbitration suite.")],
    seed: Seed = 0,
) -> None:
    """Measure how well the conflicts of an arbitration suite can be told apart at all."""
    from ..evals.arbitration.report import read_answers, runs_of
    from .separation import described
    from .separation import separation as fit_judges

    found = fit_judges([read_answers(home)[0] for home in runs_of(folder)], seed=seed)
    typer.echo("No task has enough conflicts." if found is None else described(found))


@app.command()
def leaks(
    cases: Pairs,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Where to write what was found.")
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="train, val or test.")] = "test",
    against: Annotated[
        str,
        typer.Option(metavar="NAME", help="Compare with this split of the same data set instead."),
    ] = "",
) -> None:
    """List the cases that the case store (GSCO_CASE_STORE) or another split knows.

    Exit status 1: it knows some for certain.
    """
    from .overlap import overlap, table, write_overlaps

    settings = settings_with()
    chosen, other = _split(split), _split(against) if against else None
    found = dict(overlap(source, task, chosen, settings, other) for task, source in map(pair, cases))
    typer.echo("\n".join(table(found)))
    if out is not None:
        write_overlaps(found, out, _command())
    if any(one.any for one in found.values()):
        raise typer.Exit(1)


def _split(given: str) -> Wanted:
    from ..evals.datasets.example import Wanted

    found: Wanted | None = next((one for one in get_args(Wanted) if one == given), None)
    if found is None:
        raise ConfigurationError(f"no split {given!r}; available: {', '.join(get_args(Wanted))}")
    return found


def _command() -> str:
    from ..agent.commands.train import command_of

    return f"python -m gsco.benchmarks {command_of(sys.argv[1:]).removeprefix('gsco ')}"


if __name__ == "__main__":
    try:
        app()
    except GscoError as error:
        sys.exit(f"gsco.benchmarks: {error}")
