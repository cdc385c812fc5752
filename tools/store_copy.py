"""Copying the cases of one store to another, and proving that they arrived."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .._support.progress import Progress
from ..case import Record
from ..errors import StoreError
from .stores.protocol import CaseStore, Entry, Exclusion, Filter

SEARCHES = 100
K = 10
TOLERANCE = 0.002
"""How far similarities may differ: each store may keep vectors at half precision."""
AGREEMENT = 0.98
"""Share of the same cases that searches must find in both; indexes of large stores miss one now and then."""


class MoveReport(Record):
    """What was copied, and how it was proved."""

    cases: int
    added: int
    """Cases that the other store lacked."""
    tasks: Mapping[str, int]
    encoders: Mapping[str, int]
    searches: int
    """Random searches that were made in both."""
    agreement: float
    """Share of what the one store finds that the other finds too."""


def move_cases(
    source: CaseStore, target: CaseStore, *, searches: int = SEARCHES, seed: int = 0, quiet: bool = False
) -> MoveReport:
    """Copy every case with its vectors and thumbnail; the same call goes on after an interruption.

    The source keeps what it has. What the target had before stays, and must not contradict.

    Args:
        source: where the cases are.
        target: where they go.
        searches: how many random ones must find the same in both.
        seed: of those.
        quiet: show no progress.

    Raises:
        StoreError: a store fails, or afterwards cases are missing or other ones are found.
    """
    tasks, encoders, total = source.tasks(), source.encoders(), source.count()
    sample = _Sample(searches, seed)
    with Progress("copying cases", total, quiet=quiet) as progress:
        added = target.add(_watched(source.scan(), sample, progress))
    _check_counts(tasks, encoders, target)
    agreement = _agreement(source, target, sample.entries, quiet=quiet)
    if agreement < AGREEMENT:
        raise StoreError(
            f"of what searches find in the one store the other finds only {agreement:.1%}; the copy holds "
            "other cases of the same tasks, or its index is not ready: run the same command again"
        )
    return MoveReport(
        cases=total,
        added=added,
        tasks=tasks,
        encoders=encoders,
        searches=len(sample.entries),
        agreement=agreement,
    )


class _Sample:
    """Some of the entries that pass, each as likely as any other."""

    def __init__(self, size: int, seed: int) -> None:
        self.entries: list[Entry] = []
        self._size, self._random, self._seen = size, random.Random(seed), 0

    def offer(self, entry: Entry) -> None:
        if not entry.vectors:
            return
        self._seen += 1
        if len(self.entries) < self._size:
            self.entries.append(entry)
        elif (place := self._random.randrange(self._seen)) < self._size:
            self.entries[place] = entry


def _watched(entries: Iterator[Entry], sample: _Sample, progress: Progress) -> Iterator[Entry]:
    for entry in entries:
        sample.offer(entry)
        yield entry
        progress.advance()


def _check_counts(tasks: Mapping[str, int], encoders: Mapping[str, int], target: CaseStore) -> None:
    there, widths = target.tasks(), target.encoders()
    short = [task for task, number in tasks.items() if there.get(task, 0) < number]
    lacking = [name for name, width in encoders.items() if widths.get(name) != width]
    if short or lacking:
        what = f"cases of {short[0]}" if short else f"vectors of {lacking[0]}"
        raise StoreError(f"not all {what} arrived; run the same command again")


def _agreement(source: CaseStore, target: CaseStore, entries: Sequence[Entry], *, quiet: bool) -> float:
    """Share of the cases, over random searches, that both find with the same labels and similarity."""
    agreeing = total = 0
    there = target.tasks()
    shared = {task for task, number in source.tasks().items() if there[task] > number}
    with Progress("comparing searches", len(entries), quiet=quiet) as progress:
        for number, entry in enumerate(entries):
            encoder = sorted(entry.vectors)[number % len(entry.vectors)]
            query, where = entry.vectors[encoder][None], Filter((entry.case.task,))
            exclude = [Exclusion(sha256s=frozenset([entry.case.sha256]))]
            ours, theirs = (
                {case.id: case for case in store.search(query, encoder, K, where=where, exclude=exclude)[0]}
                for store in (source, target)
            )
            due = list(ours.values())
            if entry.case.task in shared:
                # The target has cases of its own, which may push the farthest of ours out.
                farthest = min((case.similarity for case in theirs.values()), default=-1.0)
                due = [case for case in due if case.similarity > farthest + TOLERANCE]
            total += len(due)
            agreeing += sum(
                case.id in theirs
                and theirs[case.id].labels == case.labels
                and bool(np.isclose(theirs[case.id].similarity, case.similarity, atol=TOLERANCE, rtol=0))
                for case in due
            )
            progress.advance()
    return agreeing / total if total else 1.0
