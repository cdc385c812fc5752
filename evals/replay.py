"""The cases of a run on their way through its arms, many at once.

A case's evidence is gathered once and written down, and every arm decides by it (see ``desk``). So many
cases are in hand at a time, and each is written when it is done (see ``ledger``). What is written is never
asked for again, except where it was an error.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .._support.jsonl import JsonlLog
from ..case import Evidence, TaskKind
from .case_runner import CaseWork, CaseWorker
from .cases import EvalCase
from .jsonl_writer import JsonlWriter
from .records import EVIDENCE, OUTCOMES, CaseEvidence, Outcome, RunCard

if TYPE_CHECKING:
    from .._support.progress import Progress


class Finished(NamedTuple):
    """A run that has come to its end."""

    card: RunCard
    done: int
    """Outcomes that were written now; the others were there already."""
    errors: int
    """Outcomes among those that are errors."""


class Replay:
    """A run in progress.

    Args:
        card: of the run.
        out: folder of the run.
        worker: does the work of a case.
        concurrency: cases in hand at once.
    """

    def __init__(self, card: RunCard, out: Path, worker: CaseWorker, concurrency: int) -> None:
        self._card, self._worker, self._concurrency = card, worker, concurrency
        self._outcomes = JsonlLog(out / OUTCOMES, Outcome)
        self._evidence = JsonlLog(out / EVIDENCE, CaseEvidence)
        self._errors = Counter[str]()
        self._written = self._done = 0

    async def all(self, todo: Sequence[CaseWork], *, title: str, quiet: bool) -> Finished:
        """Do all of the work, in its order."""
        from .._support.progress import Progress

        self._start = time.monotonic()
        with Progress(title, len(todo), quiet=quiet) as progress:
            async with JsonlWriter(self._evidence, self._outcomes) as ledger:
                queue = iter(todo)
                hands = [
                    asyncio.create_task(self._serve(queue, ledger, progress))
                    for _ in range(min(self._concurrency, len(todo)))
                ]
                try:
                    await asyncio.gather(*hands)
                finally:
                    for hand in hands:
                        hand.cancel()
                    await asyncio.gather(*hands, return_exceptions=True)
        return Finished(self._card, self._written, self._errors.total())

    async def _serve(self, queue: Iterator[CaseWork], ledger: JsonlWriter, progress: Progress) -> None:
        """Take one case after the other until none is left."""
        for work in queue:
            done = await self._worker.do(work)
            await ledger.write(done.evidence, done.outcomes)
            self._written += len(done.outcomes)
            self._errors.update(outcome.arm for outcome in done.outcomes if outcome.error is not None)
            self._done += 1
            rate = self._done / max(time.monotonic() - self._start, 1e-9)
            progress.advance(note=f"{rate:.1f} cases/s, {self._errors.total()} errors")

    def todo(self, asked: Iterable[EvalCase]) -> list[CaseWork]:
        """What is left to do, with what is known already; cases that lack nothing are left out."""
        asked = list(asked)
        wanted = {one.id: set(self._card.arms) for one in asked}
        for outcome in self._outcomes:
            if outcome.case not in wanted or outcome.condition or not self._card.is_current(outcome):
                continue
            # The last outcome counts: an error that was asked again may have become an answer.
            if outcome.error is not None:
                wanted[outcome.case].add(outcome.arm)
            else:
                wanted[outcome.case].discard(outcome.arm)
        left = [one for one in asked if wanted[one.id]]
        gathered = self._gathered({one.id for one in left})
        return [CaseWork(one, frozenset(wanted[one.id]), gathered.get(one.id)) for one in left]

    def _gathered(self, cases: set[str]) -> Mapping[str, Evidence]:
        """Evidence of these cases that was written down before, unless a part of it could not be had.

        That of a report is gathered anew: reports of similar cases belong to it and are never written down.
        """
        if self._card.task.kind is TaskKind.REPORT:
            return {}
        return {
            found.case: found.evidence
            for found in self._evidence
            if found.case in cases
            and found.configuration == self._card.evidence
            and not found.evidence.missing
        }
