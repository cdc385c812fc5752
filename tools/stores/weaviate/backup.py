"""Backups of a case bank by Weaviate's own means, on the storage that its servers are set up with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ....errors import ConfigurationError, StoreError
from .address import WeaviateAddress
from .connection import Connection

if TYPE_CHECKING:
    from weaviate import WeaviateAsyncClient

BACKENDS = ("filesystem", "s3", "gcs", "azure")

_NAME = re.compile(r"^[a-z0-9_-]{1,100}$")
_HOURS = 12 * 3600.0


def back_up(address: WeaviateAddress, name: str, *, backend: str = "filesystem", api_key: str = "") -> None:
    """Make a backup of the whole collection, all tenants included, and wait for it.

    Args:
        address: of the case bank.
        name: of the backup: small letters, digits, ``-`` and ``_``.
        backend: where the servers put it; they need the module ``backup-BACKEND``.
        api_key: for servers that ask for one.

    Raises:
        ConfigurationError: the name or the backend is wrong.
        StoreError: it failed, or there is one of that name already.
    """
    _run("create", address, name, backend, api_key)


def restore(address: WeaviateAddress, name: str, *, backend: str = "filesystem", api_key: str = "") -> None:
    """Bring a collection back from a backup and wait for it; see ``back_up``.

    Raises:
        ConfigurationError: the name or the backend is wrong.
        StoreError: it failed, there is no such backup, or the collection is there.
    """
    _run("restore", address, name, backend, api_key)


def _run(what: str, address: WeaviateAddress, name: str, backend: str, api_key: str) -> None:
    if not _NAME.match(name):
        raise ConfigurationError(f"{name!r} is not a backup name; use small letters, digits, - and _")
    if backend not in BACKENDS:
        raise ConfigurationError(f"no backend {backend!r}; choose one of {', '.join(BACKENDS)}")

    async def work(client: WeaviateAsyncClient) -> str:
        from weaviate.backup.backup import BackupStorage

        if what == "restore" and await client.collections.exists(address.collection):
            raise StoreError(f"{address} already exists, and a backup does not replace it: delete it first")
        begin = getattr(client.backup, what)
        kept = BackupStorage(backend)
        answer = await begin(name, kept, include_collections=address.collection, wait_for_completion=True)
        return answer.status.value

    connection = Connection(address, api_key)
    try:
        # Twice would be an error here, so that only one of the hosts is asked.
        status = connection.run(work, seconds=_HOURS, hosts=1)
    finally:
        connection.close()
    if status != "SUCCESS":
        raise StoreError(f"{address}: backup {name} ended as {status}; see the server's log")
