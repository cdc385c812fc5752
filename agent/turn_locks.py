"""One turn of a conversation at a time, in all replicas that share a Postgres database."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, LiteralString

from ..errors import ConversationsUnavailable

if TYPE_CHECKING:
    from psycopg import AsyncConnection

POLL = 0.1
"""Seconds between two looks at whether another replica's turn is over."""
SETUP = "setup"
"""Name of the lock under which tables are made."""
_KEEPALIVE = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
"""A replica whose machine is gone loses its locks within 40 seconds; a killed one loses them at once."""


class TurnLocks:
    """Advisory locks of Postgres, all of them held by one connection. All methods run in one event loop.

    Within a process, who wants the same lock twice must be kept apart by other means.

    Args:
        address: of the database.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: AsyncConnection[object] | None = None
        self._connecting = asyncio.Lock()

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncGenerator[None]:
        """Wait for a lock and hold it; a process that ends lets go of it.

        Raises:
            ConversationsUnavailable: the database cannot be reached.
        """
        from psycopg import Error

        number = number_of(name)
        try:
            connection = await self._acquired(number)
        except Error as error:
            raise ConversationsUnavailable(
                f"the database of conversations does not answer ({type(error).__name__}); try again, or "
                "check GSCO_CONVERSATIONS and that the server runs"
            ) from None
        try:
            yield
        finally:
            await asyncio.shield(self._released(connection, number))

    async def close(self) -> None:
        """Close the connection and let go of all locks."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _acquired(self, number: int) -> AsyncConnection[object]:
        """The connection that holds a lock; a connection that died while it was idle is made anew, once."""
        from psycopg import Error

        for last in (False, True):
            connection = await self._connected()
            try:
                while not await _query(connection, "SELECT pg_try_advisory_lock(%s)", number):
                    await asyncio.sleep(POLL)
                return connection
            except Error:
                await self.close()
                if last:
                    raise
        raise AssertionError("the last try returns or raises")

    async def _connected(self) -> AsyncConnection[object]:
        from psycopg import AsyncConnection

        async with self._connecting:
            if self._connection is None or self._connection.closed:
                self._connection = await AsyncConnection.connect(
                    self._address, autocommit=True, connect_timeout=10
                )
                await self._connection.execute(_KEEPALIVE)
            return self._connection

    async def _released(self, connection: AsyncConnection[object], number: int) -> None:
        from psycopg import Error

        with suppress(Error):  # with the connection the lock is gone, too
            await _query(connection, "SELECT pg_advisory_unlock(%s)", number)


def number_of(name: str) -> int:
    """The number that Postgres knows a lock by: 64 bits, signed."""
    return int.from_bytes(hashlib.sha256(f"gsco/{name}".encode()).digest()[:8], "big", signed=True)


async def _query(connection: AsyncConnection[Any], query: LiteralString, number: int) -> bool:
    found = await (await connection.execute(query, [number])).fetchone()
    return bool(found and found[0])
