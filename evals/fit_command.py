"""``gsco fit``: choose and measure a task's decision rule on labelled cases."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..graphs.collaboration_fit import CollaborationFit
    from ..settings import Settings

ERROR_LIMITS = (0.05, 0.10)
"""At which it is told what can be promised."""

app = typer.Typer(
    name="fit",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def fit(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name of the task whose rule is fitted.")],
    dataset: Annotated[
        str,
        typer.Option("--dataset", "-d", metavar="FOLDER", help="Labelled images, or a set of the registry."),
    ],
    split: Annotated[str, typer.Option(metavar="SPLIT", help="Split that the rule is fitted on.")] = "val",
    certify: Annotated[
        str,
        typer.Option(metavar="SPLIT", help="Split of its own for the certificate; else half of the groups."),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Folder of specialists; else GSCO_SPECIALISTS."),
    ] = None,
    generalist: Annotated[
        str,
        typer.Option(metavar="MODEL", help="none, mini, a folder, or a server's URL; else the settings'."),
    ] = "",
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Only a random sample of so many cases.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where replayed cases are kept; else in GSCO_HOME."),
    ] = None,
    concurrency: Annotated[int, typer.Option(metavar="N", help="Cases in hand at once.")] = 64,
    seed: Annotated[int, typer.Option(help="Of samples and of the drawn half.")] = 0,
) -> None:
    """Fit and certify the decision rule of a task.

    The rule weighs specialists, similar cases and the generalist.
    The cases must be ones that trained no specialist and lie in no case store. The same command goes on with
    a fit that was stopped. The rule is written to FOLDER/TASK/collaboration.json, from where every diagnosis
    of the task reads it.
    """
    from ..errors import ConfigurationError
    from .commands import plan_from, settings_with
    from .runner import run_context_of
    from .suites import Member
    from .task_fit import arms_to_run, fit_task, write_fit

    asking = generalist != "none"
    settings = settings_with(generalist if asking else "")
    if certify and certify == split:
        raise ConfigurationError(f"--certify {certify}: the rule is fitted on this very split; name another")
    plan = plan_from(
        settings,
        arms=arms_to_run(asking),
        split=split,
        limit=limit,
        concurrency=concurrency,
        seed=seed,
        refuse_training=True,
    )
    folder = _folder(out, settings)
    place = work or settings.home / "fits" / task / Path(dataset).stem
    member = Member(dataset=dataset, task=task, split=split)
    with run_context_of(settings, plan) as bench:
        found = fit_task(bench, member, place, plan, certify_split=certify, root=settings.datasets)
    path = write_fit(found, folder)
    _print(found, path, folder, settings, dataset)


def _folder(out: Path | None, settings: Settings) -> Path:
    return out or settings.specialists or settings.home / "specialists"


def _print(found: CollaborationFit, path: Path, folder: Path, settings: Settings, dataset: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("candidate")
    for heading in ("log loss", "− pool, ± s.e.", "accuracy", "sources", "questions per case"):
        table.add_column(heading, justify="right")
    chosen = chosen_candidate(found)
    pool = next(one.log_loss for one in found.candidates if one.name == "pool")
    for one in found.candidates:
        table.add_row(
            f"{one.name} ←" if one.name == chosen else one.name,
            f"{one.log_loss:.3f}",
            f"{one.log_loss - pool:+.3f} ± {one.margin:.3f}",
            f"{one.accuracy:.3f}",
            str(one.sources),
            f"{one.calls:.2f}",
            style="bold" if one.name == chosen else None,
        )
    console.print(table)
    for line in (*summary_lines(found), *next_steps(found, path, folder, settings, dataset)):
        console.print(line, highlight=False, soft_wrap=True)


def chosen_candidate(found: CollaborationFit) -> str:
    """Name of the candidate that ships."""
    from ..graphs.fitting import ADAPTIVE, FULL_POOL, POOL
    from ..graphs.fusion import GENERALIST

    if found.rule == "adaptive":
        return ADAPTIVE
    if len(found.chosen) == 1 and any(one.name == found.chosen[0] for one in found.candidates):
        return found.chosen[0]
    return FULL_POOL if GENERALIST in found.chosen else POOL


def summary_lines(found: CollaborationFit) -> list[str]:
    """Say what was chosen and why, and what can be promised."""
    from ..graphs.certificate import certify
    from ..graphs.fusion import GENERALIST

    name = chosen_candidate(found)
    chosen = next(one for one in found.candidates if one.name == name)
    pool = next(one for one in found.candidates if one.name == "pool")
    if name == "pool":
        why = "no single source, and no question to the generalist, is better by more than a standard error"
    else:
        gained = pool.log_loss - chosen.log_loss
        why = f"its log loss is lower than the pool's by {gained:.3f} (standard error {chosen.margin:.3f})"
    lines = [
        "",
        f"Chosen, out of fold on {found.cases} cases of {found.groups} groups: {name} "
        f"({', '.join(found.chosen)}); {why}.",
    ]
    weights = (found.full if GENERALIST in found.chosen else found.quiet) or found.quiet
    if weights is not None:
        lines.append("Weights: " + ", ".join(f"{key} {value:.2f}" for key, value in weights.weights.items()))
    if not len(found.held_out):
        lines.append(
            "Nothing can be promised: all cases were needed for the fit. Give a split of its own for the "
            "certificate (--certify SPLIT), or a larger data set."
        )
        return lines
    promises = [certify(found.held_out, limit) for limit in ERROR_LIMITS]
    lines += [
        f"At most {limit:.0%} wrong: {one.words}" for limit, one in zip(ERROR_LIMITS, promises, strict=True)
    ]
    if not found.held_out.independent:
        lines.append(
            "These cases stopped or calibrated specialists, so that the promise is not independent of them; "
            "certify on cases that chose nothing (--certify test)."
        )
    return lines


def next_steps(
    found: CollaborationFit, path: Path, folder: Path, settings: Settings, dataset: str
) -> list[str]:
    """Say where the rule is and what to do next."""
    lines = ["", f"The rule of {found.task} is in {path}."]
    if folder != settings.specialists:
        lines.append(f"To use it: export GSCO_SPECIALISTS={shlex.quote(str(folder))}")
    measure = f"gsco eval run {shlex.quote(dataset)} --task {found.task} --out runs/{found.task}"
    return [*lines, f"Next: {measure}", f"      gsco diagnose IMAGE --task {found.task} --max-error 0.05"]
