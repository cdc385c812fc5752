"""``gsco store move``, ``verify``, ``backup`` and ``restore``: whole stores of known cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ...settings import Settings
    from ...tools.stores.protocol import CaseStore
    from ...tools.stores.weaviate import WeaviateAddress

Store = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="The case store; GSCO_CASE_STORE if not given.")
]
Backend = Annotated[
    str, typer.Option(metavar="NAME", help="Where Weaviate keeps backups: filesystem, s3, gcs or azure.")
]
BackupName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the backup: small letters, digits, - and _.")
]


def open_address(address: str, settings: Settings, *, writable: bool = False) -> CaseStore:
    """Open a case store with the key that settings hold."""
    from ...tools.stores import open_store

    key = settings.case_store_api_key.get_secret_value()
    return open_store(address, home=settings.home, writable=writable, api_key=key)


def move(
    source: Annotated[
        str, typer.Option("--from", metavar="ADDRESS", help="Where the cases are; empty: the bundled bank.")
    ],
    target: Annotated[str, typer.Option("--to", metavar="ADDRESS", help="Where they go.")],
    searches: Annotated[
        int, typer.Option(metavar="N", min=0, help="Random searches that must find the same in both.")
    ] = 100,
    seed: Annotated[int, typer.Option(metavar="N", help="Draws those.")] = 0,
) -> None:
    """Copy the cases of a store to another and verify the copy.

    Counts are compared, and the results of random searches. After an interruption the same command continues.
    """
    from contextlib import ExitStack, closing

    from ...errors import ConfigurationError
    from ...tools.store_copy import move_cases
    from ..configuration import settings_from

    settings = settings_from()
    if source.strip() == target.strip() or not target.strip():
        raise ConfigurationError("--to and --from name the same store; choose another target")
    with ExitStack() as stack:
        old = stack.enter_context(closing(open_address(source, settings)))
        new = stack.enter_context(closing(open_address(target, settings, writable=True)))
        report = move_cases(old, new, searches=searches, seed=seed)
    typer.echo(f"{target}: {report.added} of {report.cases} cases added, the others were there")
    for task, number in report.tasks.items():
        typer.echo(f"  task {task}: {number} cases")
    if report.searches:
        typer.echo(
            f"{report.searches} random searches find the same in both: {report.agreement:.2%} of the cases"
        )


def verify(store: Store = None) -> None:
    """Verify a case store against its checksums.

    Structure, cases, vectors and thumbnails are checked. Exit status 1: something is damaged. A store of an
    older version gets its checksums first.
    """
    from contextlib import closing

    from ...errors import ConfigurationError
    from ...tools.stores.embedded import EmbeddedStore
    from ..configuration import settings_from

    settings = settings_from()
    address = store or settings.case_store
    with closing(open_address(address, settings)) as cases:
        if not isinstance(cases, EmbeddedStore):
            raise ConfigurationError("only an embedded store can be verified; Weaviate checks its own files")
        found = cases.verify()
    typer.echo(
        f"{address or 'the store of the bundled cases'} is whole: "
        f"{found.cases} cases, {found.vectors} vectors, {found.thumbnails} thumbnails"
    )


def backup(name: BackupName, store: Store = None, backend: Backend = "filesystem") -> None:
    """Back a case bank in Weaviate up, by Weaviate's own means."""
    from ...tools.stores.weaviate.backup import back_up

    address, key = _in_weaviate(store)
    back_up(address, name, backend=backend, api_key=key)
    typer.echo(f"{address} is in backup {name} ({backend})")


def restore(name: BackupName, store: Store = None, backend: Backend = "filesystem") -> None:
    """Bring a case bank in Weaviate back from a backup."""
    from ...tools.stores.weaviate import backup

    address, key = _in_weaviate(store)
    backup.restore(address, name, backend=backend, api_key=key)
    typer.echo(f"{address} is back from backup {name} ({backend})")


def _in_weaviate(store: str | None) -> tuple[WeaviateAddress, str]:
    from ...errors import ConfigurationError
    from ...tools.stores.weaviate import parse_address
    from ..configuration import settings_from

    settings = settings_from()
    address = store or settings.case_store
    if not address.lower().startswith("weaviate://"):
        raise ConfigurationError(
            "only stores in Weaviate have backups; copy an embedded store with gsco store move"
        )
    return parse_address(address), settings.case_store_api_key.get_secret_value()
