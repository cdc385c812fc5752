"""What a report of one page shows, whether as HTML or as a PDF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .pictures import ReportImage
from .view import CaseView


@dataclass(frozen=True)
class Sheet:
    """A case laid out for one page.

    Attributes:
        view: the diagnosis and its evidence.
        pictures: the case's images, and where specialists looked.
        decision: lines on what a person decided, if anybody did.
        note: what readers must know besides the disclaimer.
        written: date and time of the report.
    """

    view: CaseView
    pictures: Sequence[ReportImage] = ()
    decision: Sequence[str] = ()
    note: str = ""
    written: datetime = field(default_factory=lambda: datetime.now().astimezone())

    @property
    def when(self) -> str:
        """Date and time as they are printed."""
        return self.written.strftime("%Y-%m-%d %H:%M %Z").strip()
