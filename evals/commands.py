"""``gsco eval``: replay cases, report, compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ..agent.commands.labelled_images import Data, LabelColumn, PathColumn
from ..errors import ConfigurationError
from .certainty_commands import certificate, drift, faces

if TYPE_CHECKING:
    from ..settings import Settings
    from .metrics.clinical import ClinicalMetric
    from .plan import Plan
    from .runner import Executor
    from .suites import Member, Suite

SOME_FAILED = 3
"""Exit status of a run that came to its end with cases that have no answer."""

app = typer.Typer(
    name="eval",
    help="Evaluate on benchmark cases and report the results.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the run; go on if it is one.")
]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a run, or with those of several.")]
Limit = Annotated[
    int | None, typer.Option(metavar="N", help="Only a random sample of so many cases per set.")
]
Leaks = Annotated[str, typer.Option(metavar="refuse|exclude|drop", help="Cases that the store knows.")]
Gate = Annotated[
    str, typer.Option(metavar="refuse|warn|off", help="What is done with an image that is unlike the task's.")
]
Concurrency = Annotated[int, typer.Option(metavar="N", help="Cases in hand at once.")]
AsForRun = Annotated[str, typer.Option("--generalist", metavar="MODEL", help="As for run.")]
Split = Annotated[str, typer.Option(metavar="SPLIT", help="train, val or test.")]
Pairs = Annotated[
    list[str], typer.Argument(metavar="TASK=DATASET…", help="Tasks, each with the data set of its cases.")
]


@app.command()
def run(
    suite: Annotated[
        str,
        typer.Argument(
            metavar="SUITE", help="quick, open, a suite's .toml file, or one data set by its name or path."
        ),
    ],
    out: Out,
    task: Annotated[
        str,
        typer.Option("--task", "-t", metavar="TASK", help="Task of a data set given by its path."),
    ] = "",
    arms: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="Some arms only: specialists, vote, mean, knn, stacking, generalist, moed, rad, gsco-paper, "
            "gsco.",
        ),
    ] = "",
    generalist: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="mini, a folder or hub id, or a server's URL (http://host:8000/v1); else the settings'.",
        ),
    ] = "",
    split: Annotated[
        str, typer.Option(metavar="SPLIT", help="Of a single data set: train, val or test.")
    ] = "test",
    limit: Limit = None,
    leaks: Leaks = "refuse",
    near_duplicates: Annotated[
        float | None, typer.Option(metavar="S", help="Do not retrieve known cases more similar than this.")
    ] = None,
    gate: Gate = "warn",
    concurrency: Concurrency = 64,
    retries: Annotated[
        int, typer.Option(metavar="N", help="How often a generalist that cannot be reached is asked again.")
    ] = 2,
    decision: Annotated[
        str, typer.Option(metavar="auto|fused|adaptive|generalist", help="Who decides in the arm gsco.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of samples and drawn splits.")] = 0,
    ray: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Share the work of a Ray cluster: its address, auto, or local."),
    ] = "",
    workers: Annotated[int, typer.Option(metavar="N", help="Ray workers; 0: one per machine.")] = 0,
) -> None:
    """Replay a suite or a data set and report. The same command goes on with a run that was stopped.

    Data sets of the registry are looked for in GSCO_DATASETS; specialists, store, profile and k are those of
    the settings (GSCO_...). Exit status 3: the run came to its end, but some cases have no answer.
    """
    settings = settings_with(generalist)
    plan = plan_from(
        settings,
        arms=_names(arms),
        split=split,
        limit=limit,
        leaks=leaks,
        near_duplicates=near_duplicates,
        gate=gate,
        concurrency=concurrency,
        retries=retries,
        seed=seed,
        decision=decision or settings.decision,
    )
    failed = _run(suite, task, out, settings, plan, ray, workers)
    _report(out)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _run(name: str, task: str, out: Path, settings: Settings, plan: Plan, ray: str, workers: int) -> bool:
    """Replay; whether anything has no answer."""
    from .runner import ALONE_HERE, run_context_of
    from .suites.suite_runner import run_member, run_suite

    team: Executor = ALONE_HERE
    if ray:
        from .cluster import Cluster

        team = Cluster(settings, ray, workers)
    suite = _suite(name, task, plan)
    with run_context_of(settings, plan, team) as bench:
        if isinstance(suite, tuple):
            finished = run_member(suite[0], out, bench, plan, root=settings.datasets)
            _report_lines(finished.done, finished.errors, out)
            return bool(finished.errors)
        played = run_suite(suite, name, out, bench, plan, root=settings.datasets)
    for one in played:
        if one.finished is None:
            typer.secho(f"{one.name} was left out: {one.error}", err=True, fg=typer.colors.RED)
        else:
            _report_lines(one.finished.done, one.finished.errors, out / one.name)
    if all(one.finished is None for one in played):
        raise ConfigurationError("none of the suite's sets could be run")
    return any(one.finished is None or one.finished.errors for one in played)


def _suite(name: str, task: str, plan: Plan) -> Suite | tuple[Member]:
    """A suite, or the single data set that is meant in a tuple."""
    from .suites import Member, bundled_suites, read_suite

    if not task and (name.endswith(".toml") or name in bundled_suites()):
        return read_suite(name)
    from .datasets import entries

    if not task and name not in entries() and not Path(name).exists():
        return read_suite(name)
    return (Member(dataset=name, task=task, split=plan.split),)


def _names(given: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in given.split(",") if name.strip())


def _report_lines(done: int, errors: int, out: Path) -> None:
    typer.echo(f"{done} outcomes written to {out}, {errors} of them errors", err=True)


@app.command()
def external(
    pack: Annotated[Path, typer.Argument(metavar="PACK", help="A pack; see gsco pack export.")],
    dataset: Data,
    out: Out,
    arms: Annotated[str, typer.Option(metavar="A,B", help="Some arms only; see gsco eval run.")] = "",
    generalist: AsForRun = "",
    gate: Gate = "warn",
    seed: Annotated[int, typer.Option(help="Of intervals.")] = 0,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
) -> None:
    """Measure a pack on images of another site.

    Run this before it is installed. Nothing is ever refitted.

    All images are test images, whatever splits they have. Their labels must be options of the pack's task.
    Exit status 3: some cases have no answer.
    """
    from ..agent.exit_codes import visible
    from ..models.dataset import Columns
    from .external import ARMS, evaluate_pack

    settings = settings_with(generalist)
    plan = plan_from(
        settings,
        arms=_names(arms) or ARMS,
        split="test",
        gate=gate,
        seed=seed,
    )
    found = evaluate_pack(pack, dataset, out, settings, plan, columns=Columns(path_column, label_column))
    typer.echo(visible(found.data.table()), err=True)
    _report_lines(found.finished.done, found.finished.errors, out)
    _report(out)
    if found.finished.errors:
        raise typer.Exit(SOME_FAILED)


@app.command()
def report(
    folder: Folder,
    images: Annotated[
        bool,
        typer.Option(help="Show images of cases in report.html; then it is not to be passed on."),
    ] = True,
    clinical: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC",
            help="Also score written reports by chexbert, radgraph or ratescore; repeatable. "
            "Needs gsco[radiology-metrics].",
        ),
    ] = None,
) -> None:
    """Score the runs of a folder and write reports.

    It writes report.html, report.md and report.json to the folder, and prints the tables.
    """
    from .metrics.clinical import ClinicalMetric

    known: dict[str, ClinicalMetric] = {name: name for name in get_args(ClinicalMetric)}
    if unknown := [name for name in clinical or () if name not in known]:
        raise ConfigurationError(f"no clinical metric {', '.join(unknown)}; available: {', '.join(known)}")
    _report(folder, images=images, clinical=[known[name] for name in clinical or ()])


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of a run or of a suite's runs.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one, over the same cases.")],
) -> None:
    """Compare two runs over the same cases, paired by case.

    The difference is B − A, for each arm.
    """
    from .run_comparison import compare as table

    typer.echo(table(first, second), nl=False)


@app.command()
def export(
    folder: Folder,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Where to; FOLDER/inspect if not given."),
    ] = None,
) -> None:
    """Export runs as logs for the viewer of inspect_ai.

    To show them: inspect view --log-dir FOLDER/inspect.
    """
    from .inspection import export_logs

    for path in export_logs(folder, out or folder / "inspect"):
        typer.echo(str(path))


@app.command()
def noise(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a finished run or suite.")],
    limit: Limit = None,
    generalist: AsForRun = "",
    seed: Annotated[int, typer.Option(help="Of what is shuffled.")] = 0,
) -> None:
    """Replay a finished run with one part replaced by noise.

    Images are shuffled, or specialists or neighbours random. The gain of a part must disappear with it.
    """
    from .noise import control

    typer.echo(control(folder, settings=settings_with(generalist), limit=limit, seed=seed), nl=False)


@app.command()
def arbitration(
    cases: Pairs,
    out: Out,
    split: Split = "test",
    limit: Limit = None,
    leaks: Leaks = "refuse",
    concurrency: Concurrency = 64,
    seed: Annotated[int, typer.Option(help="Of samples and alterations.")] = 0,
) -> None:
    """Measure what the generalist follows in conflicts.

    The evidence is altered so that it contradicts the image or the generalist's own answer. Specialists,
    store, generalist, profile and k are those of the settings (GSCO_...). After an interruption the same
    command continues. Exit status 3: some cases have no answer.
    """
    from .arbitration.report import MARKDOWN
    from .arbitration.report import report as table
    from .arbitration.suite import run as run_arbitration

    settings = settings_with()
    plan = plan_from(
        settings,
        split=split,
        limit=limit,
        leaks=leaks,
        concurrency=concurrency,
        seed=seed,
    )
    for task, source in map(pair, cases):
        run_arbitration(source, task, out / task, settings=settings, plan=plan)
    found = table(out)
    typer.echo((out / MARKDOWN).read_text(encoding="utf-8"), nl=False)
    if found.errors:
        raise typer.Exit(SOME_FAILED)


@app.command()
def curve(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER…", help="Folders of finished suites.")],
) -> None:
    """Compare finished arbitration suites side by side."""
    from .arbitration.report import curve as table

    typer.echo(table(folders), nl=False)


@app.command()
def abilities(
    cases: Pairs,
    out: Out,
    vqa: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Questions as VQA-RAD has them, images/ beside the file."),
    ] = None,
    split: Split = "test",
    limit: Annotated[int, typer.Option(metavar="N", help="A random sample of so many images per task.")] = 50,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
) -> None:
    """Measure tool choice, decisions and closed questions.

    Specialists, store and generalist are those of the settings (GSCO_...). After an interruption the same
    command continues. Exit status 3: some cases have no answer.
    """
    from .abilities.report import MARKDOWN
    from .abilities.report import report as table
    from .abilities.suite import run as run_abilities

    settings = settings_with()
    plan = plan_from(
        settings,
        split=split,
        limit=limit,
        leaks="exclude",
        gate=settings.gate,
        seed=seed,
        decision=settings.decision,
    )
    run_abilities(dict(map(pair, cases)), vqa, out, settings=settings, plan=plan)
    failed = table(out)
    typer.echo((out / MARKDOWN).read_text(encoding="utf-8"), nl=False)
    if failed:
        raise typer.Exit(SOME_FAILED)


app.command()(certificate)
app.command()(drift)
app.command()(faces)


def _report(folder: Path, *, images: bool = True, clinical: Sequence[ClinicalMetric] = ()) -> None:
    from .report import MARKDOWN, PAGE, report

    report(folder, images=images, clinical=clinical)
    if not (folder / PAGE).is_file():
        typer.echo(f"{PAGE} was not written: pip install 'gsco[evals]'", err=True)
    typer.echo((folder / MARKDOWN).read_text(encoding="utf-8"), nl=False)


def settings_with(generalist: str = "") -> Settings:
    """The settings, with another generalist where one is named."""
    from ..agent.configuration import settings_from

    if not generalist:
        return settings_from()
    if generalist == "mini":
        return settings_from(generalist_url="", generalist_model="")
    if generalist.startswith(("http://", "https://")):
        return settings_from(generalist_url=generalist)
    return settings_from(generalist_url="", generalist_model=generalist)


def pair(given: str) -> tuple[str, Path]:
    """Split ``TASK=DATASET``.

    Raises:
        ConfigurationError: it is not of that form.
    """
    task, separator, source = given.partition("=")
    if not (task and separator and source):
        raise ConfigurationError(f"{given!r} does not name a task and its data set; write TASK=DATASET")
    return task, Path(source)


def plan_from(settings: Settings, **given: Any) -> Plan:
    """A plan of options, with the profile and k of the settings.

    Raises:
        ConfigurationError: one of them is wrong.
    """
    from pydantic import ValidationError

    from ..agent.configuration import plain
    from .plan import Plan

    try:
        return Plan(profile=settings.profile, neighbours=settings.neighbours, **given)
    except ValidationError as error:
        raise ConfigurationError(f"options: {plain(error)}") from None
