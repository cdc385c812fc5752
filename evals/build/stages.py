"""The stages of a build: each leaves a marker when it is done, so that a killed build goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..._support.jsonl import write_atomically
from ...case import Record


class StageMarker(Record):
    """That a stage is done."""

    stage: str
    seconds: float


class Stages:
    """Runs stages in their order and skips those that are done.

    A stage must be safe to run again after it was killed.

    Args:
        folder: of the markers.
        total: number of stages.
        say: prints a line.
    """

    def __init__(self, folder: Path, total: int, say: Callable[[str], None]) -> None:
        self._folder, self._total, self._say = folder, total, say
        self.done: list[StageMarker] = []
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, stage: str, title: str, work: Callable[[], None]) -> None:
        """Do a stage, or find it done."""
        marker, place = self._folder / f"{stage}.done", f"[{len(self.done) + 1}/{self._total}] {title}"
        if marker.is_file():
            self.done.append(StageMarker.model_validate_json(marker.read_bytes()))
            self._say(f"{place}: done before")
            return
        self._say(place)
        start = time.monotonic()
        work()
        found = StageMarker(stage=stage, seconds=round(time.monotonic() - start, 1))
        write_atomically(marker, found.model_dump_json() + "\n")
        self.done.append(found)
        self._say(f"      {found.seconds:.0f} s")

    @property
    def seconds(self) -> float:
        """Of all stages together, also those of earlier calls."""
        return sum(one.seconds for one in self.done)
