"""Timing side by side: contenders take turns, so that whatever else the machine does hits all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Race:
    """Seconds of each contender, round by round."""

    seconds: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """Median seconds of a contender."""
        return statistics.median(self.seconds[name])

    def speed(self, name: str, against: str) -> float:
        """How many times as fast ``name`` is as ``against``: median of the rounds' own ratios.

        A ratio is taken inside a round, where both ran under the same load.
        """
        pairs = zip(self.seconds[name], self.seconds[against], strict=True)
        return statistics.median(other / own for own, other in pairs)


def race(contenders: Mapping[str, Callable[[], object]], *, rounds: int = 5, warmup: int = 1) -> Race:
    """Run the contenders in turns, in alternating order, and take the time of each turn.

    Args:
        contenders: name to what is run.
        rounds: turns that each contender gets.
        warmup: turns before those, which are not counted.
    """
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warmup, rounds):
        for name in names if turn % 2 else reversed(names):
            start = time.perf_counter()
            contenders[name]()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return Race(seconds)


def print_table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], *, note: str = ""
) -> None:
    """Print one benchmark's table; the first column is text, the others are numbers."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, header_style="bold", padding=(0, 2, 0, 0))
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="right" if position else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    console.print(table)
    if note:
        console.print(Text(note, style="dim"))
    console.print()
