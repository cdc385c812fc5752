"""What the page can do for a visitor, without the page: each method serves one user's own conversations."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ...case import Diagnosis, ReviewDecision
from ...errors import GscoError, ThreadUnknown
from ..reports import export
from ..reports.html import card, panel
from ..reports.pictures import ReportImage, picture
from ..reports.view import view_of_evidence
from ..server.telemetry import where
from ..streaming import breathing
from ..user_share import TooManyRequests, UserShare
from .bubbles import Bubble, answered, bubbles_of, remarks, user_bubbles
from .fragments import EMPTY, downloads, figures
from .turn_state import BEGINNING, TurnState

if TYPE_CHECKING:
    from ...case import ImageRef
    from ...graphs.events import Event, ReviewRequested
    from ..api import GSCo
    from ..conversation import Conversation
    from ..records import ThreadRecord
    from .upload_store import UploadStore

LOG = logging.getLogger("gsco.ui")
TICK = 1.0
"""Seconds of silence after which the page shows that time passes."""
PACE = 0.1
"""Seconds between two updates of words that stream in."""
DRAWING = "Drawing where they looked"
THUMBNAIL = 192
"""Longest side of an image in a bubble."""


@dataclass(frozen=True)
class PageUpdate:
    """What the page has to show; None leaves as it is what stands there."""

    bubbles: list[Bubble] | None = None
    panel: str | None = None
    doing: str = ""
    seconds: float = 0.0
    alert: str = ""
    over: bool = False
    """Nothing more comes: the conversation waits for a person."""
    review: ReviewRequested | None = None
    diagnosis: Diagnosis | None = None
    """What the panel shows, once it is decided."""
    about: CaseInfo | None = None
    """What the conversation is about, where it was opened."""


class CaseInfo(NamedTuple):
    """What is known of a case besides its images; empty where it is not."""

    task: str = ""
    """Name of the task; else it is chosen from the image."""
    context: str = ""


NOTHING = CaseInfo()


@dataclass(frozen=True)
class ConversationState:
    """A conversation as it is kept."""

    bubbles: list[Bubble]
    record: ThreadRecord | None = None
    review: ReviewRequested | None = None
    diagnosis: Diagnosis | None = None
    """The latest one, and its number among all."""
    number: int = -1


class ChatSession:
    """Serves the page.

    Args:
        gsco: what answers.
        uploads: of the users.
        seconds: after which a turn is given up.
        user_turns: that run at once for one user.
    """

    def __init__(
        self, gsco: GSCo, uploads: UploadStore, seconds: float = 300.0, *, user_turns: int = 16
    ) -> None:
        self.gsco = gsco
        self.uploads = uploads
        self._seconds = seconds
        self._share = UserShare(user_turns)

    async def opened(self, user: str, thread: str) -> PageUpdate:
        """A conversation as it stands; an empty one where it has not begun."""
        try:
            stands = await self._state(self.gsco.consult(thread, user=user))
        except Exception as error:
            return PageUpdate(alert=self._failure(error))
        record = stands.record
        about = CaseInfo(record.task or "", record.context or "") if record else CaseInfo()
        html: str = EMPTY
        if stands.diagnosis is not None:
            html = await asyncio.to_thread(self._decided, stands.diagnosis, thread, stands.number)
        return PageUpdate(
            stands.bubbles, html, over=True, review=stands.review, diagnosis=stands.diagnosis, about=about
        )

    def take_turn(
        self, user: str, thread: str, text: str, images: Sequence[ImageRef], about: CaseInfo = NOTHING
    ) -> AsyncGenerator[PageUpdate]:
        """Take a turn and tell what to show of it as it unfolds; what goes wrong is shown too."""
        return self._surely(user, self._take_turn(user, thread, text, images, about))

    def decided(self, user: str, thread: str, decision: ReviewDecision | None) -> AsyncGenerator[PageUpdate]:
        """Go on after a person's decision, or with a turn that was cut off; see ``said``."""
        return self._surely(user, self._resumed(user, thread, decision))

    async def _surely(self, user: str, shown: AsyncGenerator[PageUpdate]) -> AsyncGenerator[PageUpdate]:
        """The page is told of the end, whatever happens."""
        try:
            with self._share.turn(user):
                async with aclosing(shown):
                    async for each in shown:
                        yield each
        except Exception as error:
            yield PageUpdate(alert=self._failure(error), over=True)

    async def _take_turn(
        self, user: str, thread: str, text: str, images: Sequence[ImageRef], about: CaseInfo
    ) -> AsyncGenerator[PageUpdate]:
        consultation = self.gsco.consult(
            thread, user=user, task=about.task or None, context=about.context.strip() or None
        )
        pictures = await asyncio.to_thread(self._pictured, [ref.id for ref in images]) if images else ""
        begun = list(user_bubbles(text, pictures))
        unfolding = self._updates(consultation, consultation.astream(text, images), begun)
        async with aclosing(unfolding):
            async for each in unfolding:
                yield each

    async def _resumed(
        self, user: str, thread: str, decision: ReviewDecision | None
    ) -> AsyncGenerator[PageUpdate]:
        consultation = self.gsco.consult(thread, user=user)
        unfolding = self._updates(consultation, consultation.astream_resume(decision), [])
        async with aclosing(unfolding):
            async for each in unfolding:
                yield each

    def tasks(self) -> list[tuple[str, str]]:
        """Title and name of the tasks that specialists know."""
        known = self.gsco.tasks
        return [(known.get(name).title or name, name) for name in self.gsco.panels if name in known]

    def looked(self, diagnosis: Diagnosis, specialist: str, label: str) -> list[ReportImage]:
        """The image, and where a specialist looked for a label.

        Raises:
            GscoError: it cannot be drawn.
        """
        return [
            picture(self.gsco.images.get(diagnosis.case_id), "The image"),
            export.looked(self.gsco, diagnosis, specialist, label),
        ]

    async def _updates(
        self, consultation: Conversation, events: AsyncGenerator[Event], begun: list[Bubble]
    ) -> AsyncGenerator[PageUpdate]:
        begun = [*(await self._state(consultation)).bubbles, *begun]
        turn, panel_of, start = TurnState(), TurnState(), time.monotonic()
        yield PageUpdate(begun, doing=BEGINNING)
        told_at = start
        try:
            # The inner one is closed first: it waits for the outer one's next event.
            breaths = breathing(events, self._seconds, TICK)
            async with aclosing(events), aclosing(breaths):
                async for event in breaths:
                    now = time.monotonic()
                    if event is None:
                        yield PageUpdate(doing=turn.doing, seconds=now - start)
                        continue
                    turn = turn.after(event)
                    if event.kind == "text" and now - told_at < PACE:
                        continue
                    told_at, html = now, None
                    if turn.gathered != panel_of.gathered:
                        html, panel_of = await asyncio.to_thread(self._gathered, turn), turn
                    yield PageUpdate([*begun, *answered(turn)], html, turn.doing or DRAWING, now - start)
        except Exception as error:
            yield PageUpdate([*begun, *answered(turn)], alert=self._failure(error), over=True)
            return
        yield await self._ended(consultation, turn)

    async def _ended(self, consultation: Conversation, turn: TurnState) -> PageUpdate:
        """A conversation after a turn: what is kept of it, and remarks that are not."""
        stands = await self._state(consultation)
        bubbles = [*stands.bubbles, *remarks(turn)]
        if not turn.diagnoses or stands.diagnosis is None:
            return PageUpdate(bubbles, over=True, review=stands.review)
        html = await asyncio.to_thread(
            self._decided, stands.diagnosis, consultation.thread_id, stands.number
        )  # fmt: skip
        return PageUpdate(bubbles, html, over=True, review=stands.review, diagnosis=stands.diagnosis)

    async def _state(self, consultation: Conversation) -> ConversationState:
        try:
            record = await consultation.aexport()
        except ThreadUnknown:
            return ConversationState([])
        review = await consultation.apending()
        found = diagnoses_of(record)

        def carded(diagnosis: Diagnosis) -> str:
            number = found.index(diagnosis)
            links = downloads(record.thread_id, number) if number < len(found) - 1 else ""
            return f"{card(export.view(self.gsco, diagnosis), export.decision(diagnosis))}{links}"

        bubbles = await asyncio.to_thread(bubbles_of, record, self._pictured, carded, review)
        return ConversationState(bubbles, record, review, found[-1] if found else None, len(found) - 1)

    def _failure(self, error: Exception) -> str:
        if isinstance(error, GscoError | TooManyRequests):
            return str(error)
        if isinstance(error, TimeoutError):
            return f"There was no answer within {self._seconds:g} s; ask again, or set GSCO_API_TIMEOUT."
        LOG.error("a turn failed: %s\n%s", type(error).__name__, where(error))
        return "An internal error; the server's log says more. What was said so far is kept."

    def _pictured(self, ids: Sequence[str]) -> str:
        pictures = []
        for id in ids:
            try:
                pictures.append(picture(self.gsco.images.get(id), f"image {id}", THUMBNAIL))
            except GscoError:
                continue
        return figures(pictures)

    def _gathered(self, turn: TurnState) -> str:
        assert turn.evidence is not None
        image, evidence = turn.evidence
        thumbnails = export.thumbnails_of(self.gsco, evidence.similar_cases)
        title = export.title_of(self.gsco, evidence.gate.task)
        return panel(view_of_evidence(evidence, image, thumbnails, title=title))

    def _decided(self, diagnosis: Diagnosis, thread: str, number: int) -> str:
        pictures = list(export.pictures_of(self.gsco, diagnosis))
        shown = panel(export.view(self.gsco, diagnosis), pictures, export.decision(diagnosis))
        return f"{downloads(thread, number)}{shown}"


def diagnoses_of(record: ThreadRecord) -> list[Diagnosis]:
    """All diagnoses of a conversation, in order."""
    return [finding.diagnosis for finding in record.findings if finding.diagnosis is not None]
