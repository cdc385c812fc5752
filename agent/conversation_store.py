"""Conversations on disk or in a database: opened, listed, pruned and deleted, each user's apart."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from ..disk import disk_error
from ..errors import ConfigurationError, ConversationsUnavailable, GscoError, ThreadError
from .shutdown import remember_database
from .turn_locks import SETUP, TurnLocks

if TYPE_CHECKING:
    import aiosqlite
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
    from langgraph.checkpoint.serde.base import SerializerProtocol
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    from typing_extensions import TypeIs

LOCAL = "local"
"""The user where there is only one."""
BROWSER = "browser-"
"""How the names of users begin whom the page knows by their browser on this machine, without a key."""
MEMORY = ":memory:"
"""Address of conversations that end with the process."""

_WAITING = 30.0
"""Seconds to wait for another program that writes."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


class ConversationKey(NamedTuple):
    """A conversation's full name. Neither part holds a slash, so that no two keys are one."""

    user: str
    thread: str

    @property
    def config(self) -> RunnableConfig:
        """How LangGraph names it; the user also stands in every checkpoint's metadata, to list by."""
        return {
            "configurable": {"thread_id": f"{self.user}/{self.thread}"},
            "metadata": {"user": self.user},
        }


def key_of(user: str, thread: str) -> ConversationKey:
    """Make a key of names that come from outside.

    Raises:
        ThreadError: a name is empty, too long, or holds something other than letters, digits and ``._@+-``.
    """
    for what, name in (("user", user), ("thread", thread)):
        if not _NAME.fullmatch(name):
            raise ThreadError(
                f"a {what}'s name is 1 to 128 letters, digits and ._@+-, and begins with a letter or a digit"
            )
    return ConversationKey(user, thread)


class ConversationStore:
    """The checkpoints of all conversations. All methods run in one event loop, in which it is opened.

    Args:
        address: path of an SQLite file, ``postgresql://…``, or ``:memory:``.
    """

    def __init__(self, address: str | Path = MEMORY) -> None:
        self._address = str(address)
        self._stack = AsyncExitStack()
        self._saver: BaseCheckpointSaver[str] | None = None
        self._locks: TurnLocks | None = None
        """Of a database that other processes use too."""

    async def saver(self) -> BaseCheckpointSaver[str]:
        """Return LangGraph's checkpointer, opened.

        Raises:
            ThreadError: the file or the database cannot be opened.
            ConfigurationError: its driver is not installed.
        """
        if self._saver is None:
            self._saver = await self._opened()
        return self._saver

    @asynccontextmanager
    async def failures(self) -> AsyncGenerator[None]:
        """Turn what goes wrong with the file or the database into typed errors.

        Raises:
            DiskError: the disk is full or may not be written to.
            ConversationsUnavailable: the database went away.
        """
        try:
            yield
        except GscoError:
            raise
        except Exception as error:
            if isinstance(error, sqlite3.Error) and _is_sqlite(self._saver):
                # What was half written must not be committed with what is written next.
                with suppress(sqlite3.Error):
                    await self._saver.conn.rollback()
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> Exception:
        if isinstance(error, sqlite3.Error):
            path = Path(self._address)
            damaged = (
                f"the conversations in {path} cannot be read or written ({type(error).__name__}: {error})"
            )
            return disk_error(error, path) or ConversationsUnavailable(damaged)
        if any(kind.__module__.split(".")[0] in ("psycopg", "psycopg_pool") for kind in type(error).__mro__):
            return ConversationsUnavailable(
                f"the database of conversations does not answer ({type(error).__name__}); it is tried again"
                " with the next message"
            )
        return error

    @asynccontextmanager
    async def turn(self, key: ConversationKey) -> AsyncGenerator[None]:
        """Keep other processes that share the database from taking a turn of the same conversation.

        Raises:
            ThreadError: the database cannot be opened.
        """
        async with self.failures():
            await self.saver()
        if self._locks is None:
            yield
            return
        async with self._locks.hold(_id(key)):
            yield

    async def latest(self, key: ConversationKey) -> CheckpointTuple | None:
        """The conversation as it stands; None where there is none."""
        async with self.failures():
            found = await (await self.saver()).aget_tuple(key.config)
        if found is not None:
            _write_after(found.checkpoint["id"])
        return found

    async def of(self, user: str | None) -> AsyncIterator[CheckpointTuple]:
        """The latest checkpoint of each of a user's conversations, or of all users', the newest first."""
        seen: set[str] = set()
        async with self.failures():
            chosen = None if user is None else {"user": user}
            async for found in (await self.saver()).alist(None, filter=chosen):
                configurable = found.config.get("configurable", {})
                if configurable.get("checkpoint_ns") or configurable["thread_id"] in seen:
                    continue
                seen.add(configurable["thread_id"])
                yield found

    async def prune(self, key: ConversationKey) -> None:
        """Keep a conversation's latest checkpoint only.

        Every checkpoint holds the whole conversation; with all of them kept, a conversation of n turns
        would take space in n².
        """
        async with self.failures():
            saver = await self.saver()
            if _is_sqlite(saver):
                await _prune_sqlite(saver, key)
            elif self._address != MEMORY:
                await saver.aprune([_id(key)])

    async def delete(self, key: ConversationKey) -> None:
        """Remove a conversation with all of its checkpoints."""
        async with self.failures():
            saver = await self.saver()
            await saver.adelete_thread(_id(key))
            if _is_sqlite(saver):
                await self._empty_log(saver)

    async def everything(self) -> AsyncIterator[tuple[ConversationKey, CheckpointTuple]]:
        """Every checkpoint of all conversations of all users."""
        async for found in (await self.saver()).alist(None):
            user, _, thread = found.config.get("configurable", {})["thread_id"].partition("/")
            yield ConversationKey(user, thread), found

    async def of_key(self, key: ConversationKey) -> AsyncIterator[CheckpointTuple]:
        """Every checkpoint of one conversation."""
        async for found in (await self.saver()).alist(key.config):
            yield found

    async def referred(self, hashes: Sequence[str]) -> set[str]:
        """Which of these images, by hash, any conversation refers to."""
        saver = await self.saver()
        if _is_sqlite(saver):
            return await _in_sqlite(saver, hashes)
        if self._address == MEMORY:
            from .erasure import images_in

            there = [images_in(state) async for _, state in self.everything()]
            return set(hashes) & set().union(*there)
        return await _in_postgres(saver, hashes)

    async def compact(self) -> None:
        """Leave no trace of what was deleted in the file; Postgres does so by its own VACUUM.

        Raises:
            ThreadError: another program has the file open.
        """
        saver = await self.saver()
        if not _is_sqlite(saver):
            return
        try:
            async with saver.lock:
                await saver.conn.execute("VACUUM")
        except sqlite3.OperationalError as error:
            raise ThreadError(f"the conversations in {self._address} cannot be compacted: {error}") from error
        if not await self._empty_log(saver):
            raise ThreadError(
                f"another program has {self._address} open, and its log still holds the deleted data; "
                "stop it and run the same command again"
            )

    async def _empty_log(self, saver: AsyncSqliteSaver) -> bool:
        """Empty SQLite's log, which holds what was deleted; False while another program needs it."""
        async with saver.lock, saver.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)") as cursor:
            row = await cursor.fetchone()
        return row is not None and not row[0]

    async def close(self) -> None:
        """Close file or database."""
        self._saver = self._locks = None
        await self._stack.aclose()

    async def _opened(self) -> BaseCheckpointSaver[str]:
        from ..graphs.state import serializer

        if self._address == MEMORY:
            from langgraph.checkpoint.memory import InMemorySaver

            return InMemorySaver(serde=serializer())
        if urlsplit(self._address).scheme in ("postgres", "postgresql"):
            return await self._postgres(serializer())
        return await self._sqlite(Path(self._address), serializer())

    async def _sqlite(self, path: Path, serde: SerializerProtocol) -> BaseCheckpointSaver[str]:
        import aiosqlite
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)  # what was said of patients is its owner's only
            connection = await self._stack.enter_async_context(aiosqlite.connect(path, timeout=_WAITING))
            await connection.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten
            remember_database(path)
            self._stack.push_async_callback(_truncate_log, connection)
            saver = AsyncSqliteSaver(connection, serde=serde)
            await _set_up(saver)
        except (OSError, aiosqlite.Error) as error:
            await self._stack.aclose()
            problem = disk_error(error, path)
            raise problem or ThreadError(f"conversations cannot be kept in {path}: {error}") from error
        return saver

    async def _postgres(self, serde: SerializerProtocol) -> BaseCheckpointSaver[str]:
        try:
            from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
            from psycopg import Error
            from psycopg.rows import dict_row
            from psycopg_pool import AsyncConnectionPool, PoolTimeout
        except ImportError as error:
            raise ConfigurationError(
                "GSCO_CONVERSATIONS names a Postgres database; pip install 'gsco[postgres]'"
            ) from error
        pool: Any = AsyncConnectionPool(
            # Checked before use: after the server was away, those that it had given are dead.
            self._address,
            max_size=8,
            open=False,
            timeout=10,
            check=AsyncConnectionPool.check_connection,
            kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
        )
        try:
            await self._stack.enter_async_context(pool)
            saver = AsyncPostgresSaver(pool, serde=serde)
            locks = TurnLocks(self._address)
            self._stack.push_async_callback(locks.close)
            async with locks.hold(SETUP):
                await saver.setup()
            self._locks = locks
        except ThreadError:
            await self._stack.aclose()
            raise
        except (Error, PoolTimeout) as error:
            await self._stack.aclose()
            raise ConversationsUnavailable(
                f"the database of conversations cannot be opened ({type(error).__name__}); "
                "check GSCO_CONVERSATIONS and that the server runs"
            ) from None
        return saver


def _write_after(id: str) -> None:
    """Let new checkpoints sort behind this one, even if the clock was set back or another machine's is ahead.

    The latest checkpoint of a conversation is the one with the largest id, and an id begins with the time.
    """
    from langgraph.checkpoint.base import id as ids

    known = ids.UUID(id)
    if known.version == 6:
        latest = ids._last_v6_timestamp or 0  # pyright: ignore[reportPrivateUsage]
        ids._last_v6_timestamp = max(latest, known.time)  # pyright: ignore[reportPrivateUsage]


async def _truncate_log(connection: aiosqlite.Connection) -> None:
    """Write the log back into the file, which holds the conversations alone then."""
    with suppress(sqlite3.Error):
        await connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _id(key: ConversationKey) -> str:
    return key.config.get("configurable", {})["thread_id"]


def _is_sqlite(saver: BaseCheckpointSaver[str] | None) -> TypeIs[AsyncSqliteSaver]:
    return type(saver).__name__ == "AsyncSqliteSaver"


async def _set_up(saver: AsyncSqliteSaver) -> None:
    """Prepare the file. SQLite gives up at once where another program prepares it at the same moment."""
    end = time.monotonic() + _WAITING
    while True:
        try:
            return await saver.setup()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
        await asyncio.sleep(0.01)


async def _in_sqlite(saver: AsyncSqliteSaver, hashes: Sequence[str]) -> set[str]:
    """Look for hashes in the bytes of all checkpoints, which is many times as fast as reading them."""
    query = (
        "SELECT EXISTS (SELECT 1 FROM checkpoints WHERE instr(checkpoint, ?)) "
        "OR EXISTS (SELECT 1 FROM writes WHERE instr(value, ?))"
    )
    found: set[str] = set()
    async with saver.lock:
        for one in hashes:
            async with saver.conn.execute(query, (one.encode(), one.encode())) as cursor:
                row = await cursor.fetchone()
                if row and row[0]:
                    found.add(one)
    return found


async def _in_postgres(saver: Any, hashes: Sequence[str]) -> set[str]:
    query = (
        "SELECT EXISTS (SELECT 1 FROM checkpoint_blobs WHERE position(%(hash)s::bytea IN blob) > 0) "
        "OR EXISTS (SELECT 1 FROM checkpoint_writes WHERE position(%(hash)s::bytea IN blob) > 0) AS there"
    )
    found: set[str] = set()
    async with saver.conn.connection() as connection:
        for one in hashes:
            cursor = await connection.execute(query, {"hash": one.encode()})
            if (await cursor.fetchone())["there"]:
                found.add(one)
    return found


async def _prune_sqlite(saver: AsyncSqliteSaver, key: ConversationKey) -> None:
    """LangGraph's SQLite checkpointer has no pruning of its own, unlike that of Postgres."""
    newest = "SELECT MAX(checkpoint_id) FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ''"
    async with saver.lock:
        for table in ("writes", "checkpoints"):
            await saver.conn.execute(
                f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_id != ({newest})",
                (_id(key), _id(key)),
            )
        await saver.conn.commit()
