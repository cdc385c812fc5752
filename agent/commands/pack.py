"""``gsco pack``: carry a task to another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

pack = typer.Typer(name="pack", help="Carry a task to another machine.", no_args_is_help=True)

PackFile = Annotated[Path, typer.Argument(metavar="PACK", help="The pack.")]


@pack.command("export")
def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A build, or a task with specialists.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="PACK", help="The pack; NAME.gsco.zip if not given.")
    ] = None,
    images: Annotated[
        bool,
        typer.Option(help="Take thumbnails of the known cases along, and the report, which shows images."),
    ] = True,
) -> None:
    """Write a task as one file, a pack.

    It holds card, specialists, known cases, fit with certificate, report and licences.

    Groups of patients are hashed in it and paths of images are left out. Thumbnails and reports show images:
    leave them out with --no-images where these may not be passed on.
    """
    from ..configuration import settings_from
    from ..packs.export import export_pack

    found = export_pack(settings_from(), name, out or Path(f"{name}.gsco.zip"), images=images)
    size = found.path.stat().st_size / 1e6
    typer.echo(f"{found.path}: {len(found.manifest.files)} files, {found.cases} known cases, {size:.1f} MB")
    typer.echo(f"digest {found.manifest.digest}")
    for note in found.notes:
        typer.echo(f"  note: {note}")


@pack.command("verify")
def verify(file: PackFile) -> None:
    """Check a pack without installing it.

    Checked are every hash, and every part as it would be used.
    """
    from ..packs.verification import checked_pack

    with checked_pack(file) as found:
        fit = "no fit" if found.fit is None else f"fit {found.fit.version}"
        typer.echo(
            f"{file.name} is sound: task {found.task.name}, {len(found.panel.members)} specialists, "
            f"{found.cases} known cases, {fit}"
        )
        typer.echo(f"digest {found.manifest.digest}")


@pack.command("install")
def install(
    file: PackFile,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a task or build of the same name.")
    ] = False,
) -> None:
    """Check a pack and install it beside the other tasks."""
    from ..configuration import settings_from
    from ..packs.install import install_pack

    found = install_pack(settings_from(), file, replace=replace)
    done = "installed" if found.new else "was installed before; it is used again"
    typer.echo(f"{found.build.name} {found.build.version} {done}, with {found.cases} known cases")
    typer.echo(f"Next: gsco eval external {file} FOLDER --out FOLDER")
    typer.echo(f"      gsco diagnose IMAGE --task {found.build.name}")
