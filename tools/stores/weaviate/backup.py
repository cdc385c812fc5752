"""Backups of a case bank by Weaviate's own means, on the storage that its servers are set up with."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
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
    _check(name, backend)

    async def create(client: WeaviateAsyncClient) -> str:
        from weaviate.backup.backup import BackupStorage

        answer = await client.backup.create(
            name, BackupStorage(backend), include_collections=address.collection, wait_for_completion=True
        )
        return answer.status.value

    _finish(address, api_key, create, f"backup {name}")


def restore(address: WeaviateAddress, name: str, *, backend: str = "filesystem", api_key: str = "") -> None:
    """Bring a collection back from a backup and wait for it.

    Args:
        address: of the case bank; its collection must not be there.
        name: of the backup.
        backend: where the servers find it.
        api_key: for servers that ask for one.

    Raises:
        ConfigurationError: the name or the backend is wrong.
        StoreError: it failed, there is no such backup, or the collection is there.
    """
    _check(name, backend)

    async def bring_back(client: WeaviateAsyncClient) -> str:
        from weaviate.backup.backup import BackupStorage

        if await client.collections.exists(address.collection):
            raise StoreError(f"{address} is there; a backup does not replace it: delete it first")
        answer = await client.backup.restore(
            name, BackupStorage(backend), include_collections=address.collection, wait_for_completion=True
        )
        return answer.status.value

    _finish(address, api_key, bring_back, f"restoring backup {name}")


def _finish(
    address: WeaviateAddress,
    api_key: str,
    work: Callable[[WeaviateAsyncClient], Awaitable[str]],
    what: str,
) -> None:
    connection = Connection(address, api_key)
    try:
        # Twice would be an error here, so that only one of the hosts is asked.
        status = connection.run(work, seconds=_HOURS, hosts=1)
    finally:
        connection.close()
    if status != "SUCCESS":
        raise StoreError(f"{address}: {what} ended as {status}; the server's log says why")


def _check(name: str, backend: str) -> None:
    if not _NAME.match(name):
        raise ConfigurationError(f"{name!r} is no name of a backup: small letters, digits, - and _")
    if backend not in BACKENDS:
        raise ConfigurationError(f"no backend {backend!r}; there are: {', '.join(BACKENDS)}")
