"""``gsco doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MARKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "wrong": ("✗", "bold red")}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON array.")] = False,
    generalist: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Check the answers of this served generalist, and nothing else."),
    ] = None,
    load: Annotated[
        bool, typer.Option("--load", help="Load every model too, and ask the generalist a question.")
    ] = False,
    published: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder `examples` of MedDr's published code, for its five answers."
        ),
    ] = None,
) -> None:
    """Check the installation and say how to fix it.

    With --generalist, check that a server gives the answers that its weights should give. Exit status 1: a
    diagnosis with the default settings cannot run.
    """
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.text import Text

    from ..configuration import settings_from
    from ..doctor import Check, examine, healthy
    from ..exit_codes import visible

    settings, checks = settings_from(), list[Check]()
    console, progress = Console(), Console(stderr=True)
    with progress.status("looking") as status:
        if generalist:
            from ..serving_verification import verify_serving

            status.update(f"asking {visible(generalist)}")
            looked = verify_serving(settings, generalist, published)
        else:
            looked = examine(
                settings, load=load, looking=lambda subject: status.update(f"looking at {subject}")
            )
        for check in looked:
            checks.append(check)
            mark, style = MARKS[check.state]
            advice = f"\n    to do: {check.advice}" if check.advice else ""
            if not as_json:
                console.print(
                    Text.assemble(
                        (f"{mark} ", style), (f"{check.subject}: ", "bold"), visible(check.found), advice
                    )
                )
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2, ensure_ascii=False))
    if not healthy(checks):
        raise typer.Exit(1)
