"""What the page can do for a visitor, without the page: each method serves one user's own conversations."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...case import Decision, Diagnosis
from ...errors import GscoError, ThreadUnknown
from ..reports import export
from ..reports.html import card, panel
from ..reports.pictures import Picture, picture
from ..reports.view import view_of_evidence
from ..streaming import breathing
from .bubbles import Bubble, answered, asked, told
from .fragments import EMPTY, downloads, shown
from .unfolding import BEGINNING, Unfolding

if TYPE_CHECKING:
    from ...case import ImageRef
    from ...graphs.events import Event, ReviewAsked
    from ..api import GSCo
    from ..consultation import Consultation
    from ..records import ThreadRecord

LOG = logging.getLogger("gsco.ui")
TICK = 1.0
"""Seconds of silence after which the page shows that time passes."""
PACE = 0.1
"""Seconds between two updates of words that stream in."""
THUMBNAIL = 192
"""Longest side of an image in a bubble."""


@dataclass(frozen=True)
class Shown:
    """What the page has to show; None leaves as it is what stands there."""

    bubbles: list[Bubble] | None = None
    panel: str | None = None
    doing: str = ""
    seconds: float = 0.0
    alert: str = ""
    over: bool = False
    """Nothing more comes: the conversation waits for a person."""
    review: ReviewAsked | None = None
    diagnosis: Diagnosis | None = None
    """What the panel shows, once it is decided."""


class Room:
    """Serves the page.

    Args:
        gsco: what answers.
        seconds: after which a turn is given up.
    """

    def __init__(self, gsco: GSCo, seconds: float = 300.0) -> None:
        self.gsco = gsco
        self._seconds = seconds

    async def opened(self, user: str, thread: str) -> Shown:
        """A conversation as it stands; an empty one where it has not begun."""
        consultation = self.gsco.consult(thread, user=user)
        try:
            record = await consultation.aexport()
        except ThreadUnknown:
            return Shown([], EMPTY, over=True)
        review = await consultation.apending()
        bubbles = await asyncio.to_thread(told, record, self._pictured, self._carded)
        found = diagnoses_of(record)
        if not found:
            return Shown(bubbles, EMPTY, over=True, review=review)
        html = await asyncio.to_thread(self._decided, found[-1], thread, len(found) - 1)
        return Shown(bubbles, html, over=True, review=review, diagnosis=found[-1])

    async def said(
        self, user: str, thread: str, text: str, images: Sequence[ImageRef]
    ) -> AsyncGenerator[Shown]:
        """Take a turn and tell what to show of it as it unfolds."""
        consultation = self.gsco.consult(thread, user=user)
        pictures = await asyncio.to_thread(self._pictured, [ref.id for ref in images]) if images else ""
        begun = list(asked(text, pictures))
        async for each in self._unfolding(consultation, consultation.astream(text, images), begun):
            yield each

    async def decided(self, user: str, thread: str, decision: Decision | None) -> AsyncGenerator[Shown]:
        """Go on after a person's decision, or with a turn that was cut off."""
        consultation = self.gsco.consult(thread, user=user)
        async for each in self._unfolding(consultation, consultation.astream_resume(decision), []):
            yield each

    def looked(self, diagnosis: Diagnosis, specialist: str, label: str) -> list[Picture]:
        """The image, and where a specialist looked for a label.

        Raises:
            GscoError: it cannot be drawn.
        """
        return [
            picture(self.gsco.images.get(diagnosis.case_id), "The image"),
            export.looked(self.gsco, diagnosis, specialist, label),
        ]

    async def _unfolding(
        self, consultation: Consultation, events: AsyncGenerator[Event], begun: list[Bubble]
    ) -> AsyncGenerator[Shown]:
        before = (await self.opened(consultation.user, consultation.thread_id)).bubbles or []
        begun, turn, start = [*before, *begun], Unfolding(), time.monotonic()
        yield Shown(begun, doing=BEGINNING)
        told_at, panel_of = start, turn
        try:
            async with aclosing(events):
                async for event in breathing(events, self._seconds, TICK):
                    now = time.monotonic()
                    if event is None:
                        yield Shown(doing=turn.doing, seconds=now - start)
                        continue
                    turn = turn.after(event)
                    if event.kind == "text" and now - told_at < PACE:
                        continue
                    told_at = now
                    html = None
                    if turn.gathered != panel_of.gathered:
                        html, panel_of = await asyncio.to_thread(self._gathered, turn), turn
                    bubbles = [*begun, *answered(turn, self._carded)]
                    yield Shown(bubbles, html, turn.doing or "Drawing where they looked", now - start)
        except Exception as error:
            yield Shown([*begun, *answered(turn, self._carded)], alert=self._failure(error), over=True)
            return
        ended = await self.opened(consultation.user, consultation.thread_id)
        html = ended.panel if turn.diagnosis is not None or not turn.gathered else None
        yield Shown(
            [*begun, *answered(turn, self._carded)], html, over=True, review=ended.review,
            diagnosis=ended.diagnosis,
        )  # fmt: skip

    def _failure(self, error: Exception) -> str:
        if isinstance(error, GscoError):
            return str(error)
        if isinstance(error, TimeoutError):
            return f"There was no answer within {self._seconds:g} s; ask again, or set GSCO_API_TIMEOUT."
        LOG.error("a turn failed: %s", type(error).__name__, exc_info=error)
        return "An internal error; the server's log says more. What was said so far is kept."

    def _pictured(self, ids: Sequence[str]) -> str:
        pictures = []
        for id in ids:
            try:
                pictures.append(picture(self.gsco.images.get(id), f"image {id}", THUMBNAIL))
            except GscoError:
                continue
        return shown(pictures)

    def _carded(self, diagnosis: Diagnosis) -> str:
        return card(export.view(self.gsco, diagnosis))

    def _gathered(self, turn: Unfolding) -> str:
        assert turn.evidence is not None
        image, evidence = turn.evidence
        thumbnails = export.thumbnails_of(self.gsco, evidence.similar_cases)
        title = export.title_of(self.gsco, evidence.gate.task)
        return panel(view_of_evidence(evidence, image, thumbnails, title=title))

    def _decided(self, diagnosis: Diagnosis, thread: str, number: int) -> str:
        pictures = list(export.pictures_of(self.gsco, diagnosis))
        return f"{downloads(thread, number)}{panel(export.view(self.gsco, diagnosis), pictures)}"


def diagnoses_of(record: ThreadRecord) -> list[Diagnosis]:
    """All diagnoses of a conversation, in order."""
    return [finding.diagnosis for finding in record.findings if finding.diagnosis is not None]
