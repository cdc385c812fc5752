"""``gsco diagnose``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ...case import Diagnosis
    from ...errors import GscoError

    Result = Diagnosis | GscoError


def diagnose(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE",
            show_default=False,
            help="PNG, JPEG, TIFF, BMP, WebP, PNM, AVIF or DICOM files; each is a case of its own.",
        ),
    ],
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            "-t",
            metavar="TASK",
            help="What to ask (gsco tasks lists it); without it the task is chosen from the image.",
        ),
    ] = None,
    question: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The question, for tasks that answer questions.")
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the record: one JSON document; for several images one per line."),
    ] = False,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="Prompt profile; GSCO_PROFILE if not given.")
    ] = None,
    moed: Annotated[
        bool | None, typer.Option("--moed/--no-moed", help="Whether to ask the specialists.")
    ] = None,
    rad: Annotated[
        bool | None, typer.Option("--rad/--no-rad", help="Whether to look for similar known cases.")
    ] = None,
    neighbours: Annotated[
        int | None, typer.Option("--neighbours", "-k", metavar="N", help="How many similar cases.")
    ] = None,
    decision: Annotated[
        str | None,
        typer.Option(metavar="auto|fused|adaptive|generalist", help="Who decides (GSCO_DECISION)."),
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Answer alone only where at most this share is certified to be wrong, for example 0.05.",
        ),
    ] = None,
    max_missed: Annotated[
        str | None,
        typer.Option(metavar="LABEL=SHARE", help="And miss at most this share of a label; with commas."),
    ] = None,
    generalist_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="OpenAI-compatible server of the generalist: http://host:8000/v1"),
    ] = None,
    generalist_model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Its model there; without a URL a local folder or a hub id."),
    ] = None,
) -> None:
    """Diagnose images and show all the evidence.

    An image that cannot be used does not stop the others: its error goes to stderr, with --json also
    to its own line of the output, and the exit status tells that not all went well.
    """
    from ...errors import GscoError
    from ..api import GSCo
    from ..configuration import only_given, settings_from

    options = only_given(
        profile=profile,
        moed=_policy(moed),
        rad=_policy(rad),
        neighbours=neighbours,
        decision=decision,
        max_error=max_error,
        max_missed=max_missed,
        generalist_url=generalist_url,
        generalist_model=generalist_model,
    )
    with GSCo.from_settings(settings_from(**options)) as gsco:
        if task is not None:
            gsco.tasks.get(task)
        results = gsco.diagnose_many(
            images, task=task, question=question, progress=len(images) > 1, on_error="return"
        )
    if as_json:
        _print_json(images, results)
    else:
        _print_diagnoses(images, results)
    _finish(
        (image, result)
        for image, result in zip(images, results, strict=True)
        if isinstance(result, GscoError)
    )


def _policy(wanted: bool | None) -> str | None:
    return None if wanted is None else "prefer" if wanted else "off"


def _print_json(images: list[Path], results: list[Result]) -> None:
    import json

    from ...case import Diagnosis

    alone = len(results) == 1
    for image, result in zip(images, results, strict=True):
        if isinstance(result, Diagnosis):
            record = result.model_copy(update={"image": str(image)})
            typer.echo(record.model_dump_json(indent=2 if alone else None))
        else:
            failure = {"image": str(image), "error": type(result).__name__, "message": str(result)}
            typer.echo(json.dumps(failure, indent=2 if alone else None, ensure_ascii=False))


def _print_diagnoses(images: list[Path], results: list[Result]) -> None:
    from rich.console import Console

    from ...case import Diagnosis
    from ..terminal_output import print_diagnosis

    console = Console()
    for image, result in zip(images, results, strict=True):
        if isinstance(result, Diagnosis):
            print_diagnosis(result, console, title=image.name)


def _finish(failures: Iterable[tuple[Path, GscoError]]) -> None:
    from ..exit_codes import exit_code, one_line

    codes = []
    for image, error in failures:
        typer.secho(one_line(f"{image}: {error}"), err=True, fg=typer.colors.RED)
        codes.append(exit_code(error))
    if codes:
        raise typer.Exit(max(codes))
