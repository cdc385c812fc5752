"""What a report holds: runs, their numbers, and what they are together."""

from __future__ import annotations

from ...case import Record
from ..abilities.report import AbilityRow
from ..arbitration.report import Arbitration
from ..noise import NoiseRow
from ..overall import Overall
from ..records import RunCard
from ..scoring import Scores
from ..texts import TextScore


class RunReport(Record):
    """One run: what it was, and its numbers."""

    run: RunCard
    finished: int
    """Cases that every arm has finished; the numbers are over these."""
    stale: int
    """Outcomes of an earlier configuration in the same folder, which are left out."""
    scores: Scores | None = None
    """Of a closed task."""
    texts: tuple[TextScore, ...] = ()
    """Of an open task."""
    noise: tuple[NoiseRow, ...] = ()
    """The noise control, where it was run over this run."""
    arbitration: Arbitration | None = None
    """The arbitration suite, where it was run and is finished."""
    abilities: tuple[AbilityRow, ...] = ()
    """What the generalist showed beside its decisions, where the run is of that suite."""


class Report(Record):
    """One or several runs, and what they are together."""

    runs: tuple[RunReport, ...]
    overall: Overall | None = None
    """Of several runs of closed tasks."""
