"""What the page can do for a visitor, without the page: each method serves one user's own conversations."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ...case import Diagnosis, ReviewDecision
from ...errors import GscoError, ReviewOpen, ThreadUnknown
from ..reports import export
from ..reports.html import panel, viewer
from ..reports.pictures import NO_PICTURES, SIDE, CasePictures, ReportImage, picture
from ..reports.view import decision_words, view_of_evidence
from ..server.telemetry import where
from ..streaming import breathing
from ..user_share import TooManyRequests, UserShare
from .bubbles import Bubble, answered, bubbles_of, remarks, user_bubbles
from .case_card import case_card
from .fragments import EMPTY, downloads, figures, undecided
from .turn_state import BEGINNING, TurnState

if TYPE_CHECKING:
    from ...case import ImageRef, Task
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
DRAWING, STOPPING = "Drawing where they looked", "Stopping"
THUMBNAIL = 192
"""Longest side of an image in a bubble."""
ICON = 64
"""Longest side of an image in the list of conversations."""
CUT_OFF = (
    "The last answer is not finished. What was found so far is kept; your next question finishes it first."
)
STOPPED = f"Stopped. {CUT_OFF}"
NOT_KEPT = "Stopped before the question was kept; ask again."


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
    cases: tuple[str, ...] = ()
    """All diagnoses of the conversation in a few words, and the number of the one in the panel."""
    number: int | None = None


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
    found: tuple[Diagnosis, ...] = ()
    """All diagnoses, and the number of the one to show."""
    number: int | None = None

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The one to show."""
        return None if self.number is None else self.found[self.number]

    @property
    def questions(self) -> int:
        """How many messages of the user are kept."""
        return sum(one.role == "user" for one in self.record.said) if self.record else 0

    @property
    def cases(self) -> tuple[str, ...]:
        """All diagnoses in a few words."""
        return tuple(f"{place}: {decision_words(one)}" for place, one in enumerate(self.found, start=1))


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
        self._stops: defaultdict[tuple[str, str], set[asyncio.Event]] = defaultdict(set)
        """Of the turns that run, by user and conversation: set to stop them."""
        self.picture, self.icons = lru_cache(64)(self._picture), lru_cache(256)(self._picture)

    async def opened(self, user: str, thread: str) -> PageUpdate:
        """A conversation as it stands; an empty one where it has not begun."""
        try:
            stands = await self._state(self.gsco.consult(thread, user=user))
            record = stands.record
            about = CaseInfo(record.task or "", record.context or "") if record else CaseInfo()
            html = await asyncio.to_thread(self._panel, stands, thread)
        except Exception as error:
            return PageUpdate(alert=self._failure(error), over=True)
        cut_off = record is not None and record.status == "cut off"
        return PageUpdate(
            stands.bubbles,
            html,
            alert=CUT_OFF if cut_off else "",
            over=True,
            review=stands.review,
            diagnosis=stands.diagnosis,
            about=about,
            cases=stands.cases,
            number=stands.number,
        )

    async def case(self, user: str, thread: str, number: int) -> PageUpdate:
        """One of a conversation's diagnoses in the panel."""
        try:
            stands = await self._state(self.gsco.consult(thread, user=user), number)
            html = await asyncio.to_thread(self._panel, stands, thread)
        except Exception as error:
            return PageUpdate(alert=self._failure(error))
        return PageUpdate(panel=html, diagnosis=stands.diagnosis, cases=stands.cases, number=stands.number)

    def stop(self, user: str, thread: str) -> None:
        """Stop what runs in a conversation; its stream then shows what is kept, and ends."""
        for stop in self._stops.get((user, thread), ()):
            stop.set()

    def take_turn(
        self, user: str, thread: str, text: str, images: Sequence[ImageRef], about: CaseInfo = NOTHING
    ) -> AsyncGenerator[PageUpdate]:
        """Take a turn and tell what to show of it as it unfolds; what goes wrong is shown too."""
        stop = asyncio.Event()
        return self._surely(user, thread, stop, self._take_turn(user, thread, text, images, about, stop))

    def decided(self, user: str, thread: str, decision: ReviewDecision | None) -> AsyncGenerator[PageUpdate]:
        """Go on after a person's decision, or with a turn that was cut off; see ``said``."""
        stop = asyncio.Event()
        return self._surely(user, thread, stop, self._resumed(user, thread, decision, stop))

    async def _surely(
        self, user: str, thread: str, stop: asyncio.Event, shown: AsyncGenerator[PageUpdate]
    ) -> AsyncGenerator[PageUpdate]:
        """The page is told of the end, whatever happens."""
        self._stops[user, thread].add(stop)
        try:
            with self._share.turn(user):
                async with aclosing(shown):
                    async for each in shown:
                        yield each
        except Exception as error:
            yield PageUpdate(alert=self._failure(error), over=True)
        finally:
            self._stops[user, thread].discard(stop)
            if not self._stops[user, thread]:
                del self._stops[user, thread]

    async def _take_turn(
        self,
        user: str,
        thread: str,
        text: str,
        images: Sequence[ImageRef],
        about: CaseInfo,
        stop: asyncio.Event,
    ) -> AsyncGenerator[PageUpdate]:
        consultation = self.gsco.consult(
            thread, user=user, task=about.task or None, context=about.context.strip() or None
        )
        events = consultation.astream(text, images)
        unfolding = self._updates(consultation, events, stop, text, images)
        async with aclosing(unfolding):
            async for each in unfolding:
                yield each

    async def _resumed(
        self, user: str, thread: str, decision: ReviewDecision | None, stop: asyncio.Event
    ) -> AsyncGenerator[PageUpdate]:
        consultation = self.gsco.consult(thread, user=user)
        unfolding = self._updates(consultation, consultation.astream_resume(decision), stop)
        async with aclosing(unfolding):
            async for each in unfolding:
                yield each

    def tasks(self) -> list[Task]:
        """The tasks that specialists know."""
        known = self.gsco.tasks
        return [known.get(name) for name in self.gsco.panels if name in known]

    def icon(self, id: str) -> ReportImage | None:
        """An image in the list of conversations; None where it is gone."""
        try:
            return self.icons(id, ICON, "")
        except GscoError:
            return None

    def looked(self, diagnosis: Diagnosis, specialist: str, label: str) -> str:
        """The image with a layer of where a specialist looked for a label, as a fragment.

        Raises:
            GscoError: it cannot be drawn.
        """
        image = picture(self.gsco.images.get(diagnosis.case_id), "The image")
        return viewer(CasePictures(image, export.layer_of(self.gsco, diagnosis, specialist, label)))

    def findings(self, diagnosis: Diagnosis, labels: Sequence[str]) -> list[str]:
        """Those of the labels that have a place in the image."""
        return export.finding_labels(self.gsco, diagnosis, labels)

    async def _updates(
        self,
        consultation: Conversation,
        events: AsyncGenerator[Event],
        stop: asyncio.Event,
        text: str = "",
        images: Sequence[ImageRef] = (),
    ) -> AsyncGenerator[PageUpdate]:
        turn, panel_of, told_at = TurnState(), TurnState(), 0.0
        before = await self._state(consultation)
        pictures = await asyncio.to_thread(self._pictured, [ref.id for ref in images]) if images else ""
        begun, start = [*before.bubbles, *user_bubbles(text, pictures)], time.monotonic()
        waiting = await asyncio.to_thread(self._waiting, images[-1].id) if images else None
        yield PageUpdate(begun, waiting, doing=BEGINNING)
        try:
            # The inner one is closed first: it waits for the outer one's next event.
            breaths = breathing(events, self._seconds, TICK, stop)
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
        except ReviewOpen as error:
            shown = await self.opened(consultation.user, consultation.thread_id)
            yield replace(shown, alert=self._failure(error))
            return
        except Exception as error:
            yield PageUpdate([*begun, *answered(turn)], alert=self._failure(error), over=True)
            return
        if not stop.is_set():
            yield await self._ended(consultation, turn)
            return
        yield PageUpdate(doing=STOPPING)
        await consultation.await_idle()
        if text or images:
            await self._keep(consultation, before, text, images)
        yield await self._halted(consultation)

    async def _keep(
        self, consultation: Conversation, before: ConversationState, text: str, images: Sequence[ImageRef]
    ) -> None:
        """Keep the question of a turn that was stopped before it was written down."""
        after = await self._state(consultation)
        if after.questions == before.questions:
            await consultation.akept(text, images)

    async def _halted(self, consultation: Conversation) -> PageUpdate:
        """A conversation after its turn was stopped."""
        shown = await self.opened(consultation.user, consultation.thread_id)
        words = STOPPED if shown.alert == CUT_OFF else shown.alert or ("" if shown.bubbles else NOT_KEPT)
        return replace(shown, alert=words)

    async def _ended(self, consultation: Conversation, turn: TurnState) -> PageUpdate:
        """A conversation after a turn: what is kept of it, and remarks that are not."""
        stands = await self._state(consultation)
        # Evidence without a decision stays where it is: that of an image that no task fits.
        same = stands.diagnosis is None and turn.evidence is not None
        html = None if same else await asyncio.to_thread(self._panel, stands, consultation.thread_id)
        return PageUpdate(
            [*stands.bubbles, *remarks(turn)],
            html,
            over=True,
            review=stands.review,
            diagnosis=stands.diagnosis,
            cases=stands.cases,
            number=stands.number,
        )

    async def _state(self, consultation: Conversation, number: int | None = None) -> ConversationState:
        try:
            record = await consultation.aexport()
        except ThreadUnknown:
            return ConversationState([])
        review = await consultation.apending()
        found = diagnoses_of(record)
        shown = number if number is not None and 0 <= number < len(found) else diagnosis_number(record)

        def carded(diagnosis: Diagnosis, said: str) -> str:
            place = found.index(diagnosis)
            links = downloads(record.thread_id, place) if place != shown else ""
            return case_card(export.view(self.gsco, diagnosis), diagnosis, said, links)

        bubbles = await asyncio.to_thread(bubbles_of, record, self._pictured, carded, review)
        return ConversationState(bubbles, record, review, tuple(found), shown)

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
                pictures.append(self.picture(id, THUMBNAIL, f"image {id}"))
            except GscoError:
                continue
        return figures(pictures)

    def _picture(self, id: str, side: int, caption: str) -> ReportImage:
        return picture(self.gsco.images.get(id), caption, side)

    def _image(self, id: str) -> CasePictures:
        try:
            return CasePictures(self.picture(id, SIDE, "The image"))
        except GscoError:
            return NO_PICTURES

    def _waiting(self, id: str) -> str:
        return undecided(self._image(id).image, "Looking at the image.")

    def _gathered(self, turn: TurnState) -> str:
        assert turn.evidence is not None
        id, evidence = turn.evidence
        thumbnails = export.thumbnails_of(self.gsco, evidence.similar_cases)
        title = export.title_of(self.gsco, evidence.gate.task)
        return panel(view_of_evidence(evidence, id, thumbnails, title=title), self._image(id))

    def _panel(self, stands: ConversationState, thread: str) -> str:
        diagnosis, record = stands.diagnosis, stands.record
        if diagnosis is None and record is not None and record.images:
            return undecided(self._image(record.images[-1].id).image, "There is no decision on this image.")
        if diagnosis is None or stands.number is None:
            return EMPTY
        pictures = export.case_pictures(self.gsco, diagnosis)
        shown = panel(export.view(self.gsco, diagnosis), pictures, export.decision(diagnosis))
        return f"{downloads(thread, stands.number, 'Download shown report')}{shown}"


def diagnoses_of(record: ThreadRecord) -> list[Diagnosis]:
    """All diagnoses of a conversation, by turn and then in the order in which the images were shown."""
    return [diagnosis for _, diagnosis in _decided(record)]


def diagnosis_number(record: ThreadRecord) -> int | None:
    """Which of a conversation's diagnoses to show: the latest since images were last shown.

    None where the latest images have none: another image's would stand beside their question.
    """
    asked = [one for one in record.said if one.role == "user"]
    last = max((place for place, one in enumerate(asked) if one.images), default=0)
    recent = {one.turn for one in asked[last:]}
    places = [place for place, (turn, _) in enumerate(_decided(record)) if turn in recent]
    return places[-1] if places else None


def _decided(record: ThreadRecord) -> list[tuple[str, Diagnosis]]:
    turns = {one.turn: place for place, one in enumerate(record.said) if one.role == "user"}
    images = {image.id: place for place, image in enumerate(record.images)}
    found = [(one.turn, one.diagnosis) for one in record.findings if one.diagnosis is not None]
    return sorted(found, key=lambda pair: (turns.get(pair[0], 0), images.get(pair[1].case_id, 0)))
