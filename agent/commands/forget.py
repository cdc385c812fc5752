"""``gsco forget``: erase what is kept of a patient."""

from __future__ import annotations

from typing import Annotated

import typer


def forget(
    group: Annotated[
        str, typer.Option(metavar="ID", help="Patient or study pseudonym, as in labels.csv or --group.")
    ],
    citing: Annotated[
        bool | None,
        typer.Option(
            "--citing/--keep-citing", help="Conversations about others that cite a case of this group."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase all that is stored about a patient.

    Cases, thumbnails, conversations and images are deleted and overwritten in their files. This covers the
    case store, builds, the conversations of all users and GSCO_HOME. It does not cover your data sets, what
    specialists have learnt, the results of evaluations, exports, and backups. Stop the servers first.
    """
    from ..configuration import settings_from
    from ..erasure import forget as erase

    settings = settings_from()
    if not yes:
        typer.confirm(f"erase all that is kept of group {group}?", abort=True)
    erased = erase(settings, group, citing=citing)
    typer.echo(
        f"erased: {erased.cases} cases, {len(erased.conversations)} conversations, {erased.images} images"
    )
    if erased.kept_images:
        typer.echo(f"kept: {erased.kept_images} images, to which a conversation of another group refers")
    if erased.citing:
        names = ", ".join(f"{key.user}/{key.thread}" for key in erased.citing)
        typer.echo(f"kept: conversations that cite cases of the group: {names}")
