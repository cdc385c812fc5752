"""Progress of long work: a bar on a terminal, plain lines elsewhere, always on stderr."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Counts steps towards a total.

    Args:
        title: what is being done.
        total: number of steps.
        quiet: show nothing.
    """

    def __init__(self, title: str, total: int, *, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._title, self._total, self._done = title, total, 0
        self._printed = time.monotonic()
        self._bar: Bar | None = None
        if self._console.is_terminal and not quiet:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task(title, total=total)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, steps: int = 1, *, note: str = "") -> None:
        """Count steps done; ``note`` is shown beside the title."""
        self._done += steps
        if self._bar is not None:
            self._bar.update(self._task, advance=steps, description=f"{self._title} {note}".strip())
        elif time.monotonic() - self._printed > SECONDS_BETWEEN_LINES:
            self._printed = time.monotonic()
            self._console.print(f"{self._title} {self._done}/{self._total} {note}".strip(), markup=False)

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text, markup=False)
