"""``gsco conversations``: conversations that are kept."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..conversation_store import LOCAL

if TYPE_CHECKING:
    from ..api import GSCo

conversations = typer.Typer(
    name="conversations", no_args_is_help=True, help="List, read, export and delete conversations."
)

User = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Whose conversations: the name of an API key's owner. Without it: those of this machine, from "
        "the command line, Python and the page.",
    ),
]
Thread = Annotated[str, typer.Argument(metavar="CONVERSATION", help="The conversation's name.")]


@conversations.command(name="list")
def list_(
    user: User = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """List a user's conversations, the latest first."""
    with _kept() as gsco:
        found = gsco.local_threads() if user is None else gsco.threads(user=user)
    if as_json:
        from pydantic import TypeAdapter

        from ..records import ThreadSummary

        typer.echo(TypeAdapter(list[ThreadSummary]).dump_json(found, indent=2).decode())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..exit_codes import visible

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("thread", "updated", "turns", "status", "decision", "begins"):
        table.add_column(heading, no_wrap=heading not in ("decision", "begins"))
    for one in found:
        when = f"{one.updated:%Y-%m-%d %H:%M}"
        cells = (one.thread_id, when, str(one.turns), one.status, one.decision, one.title)
        table.add_row(*(Text(visible(cell)) for cell in cells))
    Console().print(table)


@conversations.command()
def show(thread: Thread, user: User = None) -> None:
    """Print what was said in a conversation, and what its tools found."""
    from ..exit_codes import visible

    with _kept() as gsco:
        record = gsco.export_thread(thread, user=_owner(gsco, thread, user))
    for said in record.said:
        speaker = f"{said.role} {said.tool}" if said.tool else said.role
        shown = [f"[image {image}]" for image in said.images]
        called = [f"[calls {call.name}]" for call in said.calls]
        typer.echo(visible(f"{speaker}: {' '.join([*shown, said.text, *called]).strip()}"))
    typer.echo(f"\n{record.status}. {record.disclaimer}")


@conversations.command()
def export(
    thread: Thread,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write here instead of printing; it must not exist yet."),
    ] = None,
    user: User = None,
) -> None:
    """Print a whole conversation as JSON.

    It holds the messages, the evidence with its sources, and every review, but no image.
    """
    from ...errors import ConfigurationError

    with _kept() as gsco:
        text = gsco.export_thread(thread, user=_owner(gsco, thread, user)).model_dump_json(indent=2)
    if out is None:
        typer.echo(text)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written: {error.strerror}; name another file") from error


@conversations.command()
def delete(
    thread: Thread,
    user: User = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a conversation and the images that only it refers to."""
    with _kept() as gsco:
        user = _owner(gsco, thread, user)
        turns = sum(said.role == "user" for said in gsco.export_thread(thread, user=user).said)
        if not yes:
            typer.confirm(f"delete {thread} with its {turns} turns?", abort=True)
        gsco.delete_thread(thread, user=user)


def _owner(gsco: GSCo, thread: str, user: str | None) -> str:
    """Whose conversation is meant: that of the given user, or one of this machine's, a page's included."""
    if user is not None:
        return user
    return next((one.user for one in gsco.local_threads() if one.thread_id == thread), LOCAL)


@contextmanager
def _kept() -> Generator[GSCo]:
    """The installation whose conversations they are; no model is loaded."""
    from ..api import GSCo

    with GSCo.from_settings() as gsco:
        yield gsco
