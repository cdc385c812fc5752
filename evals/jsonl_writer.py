"""Writing records down while others work: in groups, and whoever waits goes on when his is on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from .._support.jsonl import JsonlLog
from ..disk import disk_error
from ..errors import StoreError
from .records import CaseEvidence, Outcome

Page = tuple[Sequence[CaseEvidence], Sequence[Outcome]]


class JsonlWriter:
    """Appends evidence and outcomes of many cases at once.

    While one group is being written and synced, the next one gathers: a slow disk makes groups larger
    and costs the cases no time. ``write`` returns after the sync of its group, so that what counts as
    done, in the progress or in a decision that builds on it, is on the disk. A kill loses only what
    nobody was told of; a line that it tears is cut off at the next start.

    Args:
        evidence: where evidence goes; it is on the disk before the outcomes that rest on it.
        outcomes: where outcomes go.
    """

    def __init__(self, evidence: JsonlLog[CaseEvidence], outcomes: JsonlLog[Outcome]) -> None:
        self._evidence, self._outcomes = evidence, outcomes
        self._waiting: list[tuple[Page, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    async def write(self, evidence: Sequence[CaseEvidence], outcomes: Sequence[Outcome]) -> None:
        """Write records and wait until they are on the disk.

        Raises:
            DiskError: the disk is full.
            StoreError: the disk does not take them for another reason.
        """
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(((evidence, outcomes), done))
        self._wake.set()
        await done

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._serve())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._wake.set()
        if self._task is not None:
            await self._task

    async def _serve(self) -> None:
        while not (self._closed and not self._waiting):
            await self._wake.wait()
            self._wake.clear()
            group, self._waiting = self._waiting, []
            if group:
                await self._settle(group)
            if self._closed or self._waiting:
                self._wake.set()

    async def _settle(self, group: Sequence[tuple[Page, asyncio.Future[None]]]) -> None:
        try:
            await asyncio.to_thread(self._append, [page for page, _ in group])
        except OSError as error:
            failure = disk_error(error, self._outcomes.path) or StoreError(
                f"records cannot be written to {self._outcomes.path}: {error.strerror}"
            )
            for _, done in group:
                if not done.done():
                    done.set_exception(failure)
            return
        for _, done in group:
            if not done.done():
                done.set_result(None)

    def _append(self, pages: Sequence[Page]) -> None:
        self._evidence.append(one for evidence, _ in pages for one in evidence)
        self._outcomes.append(one for _, outcomes in pages for one in outcomes)
