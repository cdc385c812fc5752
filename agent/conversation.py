"""A conversation about a case, from Python: ``GSCo.consult(…).send("What is this?", ["scan.png"])``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from typing import TYPE_CHECKING, TypeVar

from .._support.background import BackgroundLoop
from ..case import Diagnosis, ReviewDecision
from ..graphs.events import Event, EvidenceArrived, Final, ReviewRequested
from ..models.generalist.messages import parts
from .case_reader import several
from .conversation_runner import ConversationRunner, PastConversation, UserTurn
from .conversation_store import ConversationKey
from .records import ThreadRecord, Turn, Utterance, record_of
from .text_limits import DEFAULT_TEXT_LIMITS, TextLimits

if TYPE_CHECKING:
    from ..case import ImageRef
    from .case_reader import CaseReader, Source

T = TypeVar("T")
NOTHING = PastConversation()


class Conversation:
    """One conversation, stored under its name: another process may continue it.

    Each method comes twice: to wait for, and with an ``a`` before its name to be awaited in any event loop.

    Args:
        key: the conversation's name.
        desk: where it is held.
        intake: reads images.
        loop: in which both run.
        about: task, group and context of the conversation.
        text_limits: how long a message, and all of what a request brings, may be.
    """

    def __init__(
        self,
        key: ConversationKey,
        desk: ConversationRunner,
        intake: CaseReader,
        loop: BackgroundLoop,
        about: dict[str, str | None],
        text_limits: TextLimits = DEFAULT_TEXT_LIMITS,
    ) -> None:
        self._key = key
        self._desk = desk
        self._intake = intake
        self._loop = loop
        self._about = about
        self._text_limits = text_limits

    @property
    def thread_id(self) -> str:
        """The conversation's name, unique among its user's."""
        return self._key.thread

    @property
    def user(self) -> str:
        """The user who owns the conversation."""
        return self._key.user

    def send(self, text: str, images: Source | Sequence[Source] = ()) -> Turn:
        """Send a message and wait for the answer.

        Args:
            text: what is said.
            images: shown with it, one or several: files, bytes, pixels or stored images.

        Returns:
            The turn. Where ``Turn.review`` is set, a person must decide: see ``resume``.

        Raises:
            ImageError: an image cannot be used.
            TextTooLong: the text is over the limit on characters.
            ReviewOpen: a person must decide on the last diagnosis first.
            GeneralistError: the generalist cannot be loaded, reached or understood.
        """
        return self._loop.run(turn_of(self._take_turn(text, images)))

    async def asend(self, text: str, images: Source | Sequence[Source] = ()) -> Turn:
        """See ``send``."""
        return await self._awaited(turn_of(self._take_turn(text, images)))

    def astream(
        self, text: str, images: Source | Sequence[Source] = (), *, earlier: PastConversation = NOTHING
    ) -> AsyncGenerator[Event]:
        """Send a message and get events as they happen; the last one is ``Final`` or ``ReviewRequested``.

        Closing the iterator stops the turn; ``resume`` goes on with it.

        Args:
            text: what is said.
            images: shown with it, as in ``send``.
            earlier: what a new conversation begins with, where others keep it; else it is left aside.
        """
        return self._loop.stream(self._take_turn(text, images, earlier))

    def resume(self, decision: ReviewDecision | None = None) -> Turn:
        """Resume a turn that waits for a person's decision or was interrupted.

        Args:
            decision: of a reviewer; None to finish a turn that was cut off.

        Raises:
            ThreadUnknown: there is no such conversation.
            ReviewOpen: a decision is needed and none is given.
            ThreadError: no decision is asked for, or the last turn is over.
            TaskError: the decision's labels do not fit the task.
        """
        return self._loop.run(turn_of(self._desk.resumed(self._key, decision)))

    async def aresume(self, decision: ReviewDecision | None = None) -> Turn:
        """See ``resume``."""
        return await self._awaited(turn_of(self._desk.resumed(self._key, decision)))

    def astream_resume(self, decision: ReviewDecision | None = None) -> AsyncGenerator[Event]:
        """See ``resume`` and ``astream``."""
        return self._loop.stream(self._desk.resumed(self._key, decision))

    def history(self) -> tuple[Utterance, ...]:
        """What was said; empty for a conversation that has not begun."""
        return self._loop.run(self._history())

    async def ahistory(self) -> tuple[Utterance, ...]:
        """See ``history``."""
        return await self._awaited(self._history())

    def pending(self) -> ReviewRequested | None:
        """What a person is asked at present; None where nobody is."""
        return self._loop.run(self._pending())

    async def apending(self) -> ReviewRequested | None:
        """See ``pending``."""
        return await self._awaited(self._pending())

    async def akept(self, text: str, images: Sequence[ImageRef]) -> bool:
        """Write down what is said without an answer; ``resume`` goes on with it.

        It waits for the turn that runs. False where the last turn is not finished, or waits for a person.
        """
        said = UserTurn(text, tuple(images), self._about)
        return await self._awaited(self._desk.keep(self._key, said))

    async def await_idle(self) -> None:
        """Wait until no turn of the conversation runs; a closed iterator takes a moment to end."""
        await self._awaited(self._desk.wait_idle(self._key))

    def export(self) -> ThreadRecord:
        """The whole conversation as a record, with all evidence and every review; without pixels.

        Raises:
            ThreadUnknown: it has not begun, or was deleted.
        """
        return self._loop.run(self._export())

    async def aexport(self) -> ThreadRecord:
        """See ``export``."""
        return await self._awaited(self._export())

    def delete(self) -> None:
        """Delete the conversation, and those of its images that no other conversation refers to.

        Raises:
            ThreadUnknown: it has not begun, or was deleted.
        """
        self._loop.run(self._desk.delete(self._key))

    async def adelete(self) -> None:
        """See ``delete``."""
        await self._awaited(self._desk.delete(self._key))

    async def _take_turn(
        self, text: str, images: Source | Sequence[Source], earlier: PastConversation = NOTHING
    ) -> AsyncIterator[Event]:
        before = (parts(one)[1] for one in earlier.messages)
        self._text_limits.check((text, self._about.get("context"), *before))
        refs = await self._intake.images(several(images))
        with self._intake.store.held((*earlier.images, *refs), self._about.get("group")):
            async for event in self._desk.take_turn(self._key, UserTurn(text, refs, self._about, earlier)):
                yield event

    async def _history(self) -> tuple[Utterance, ...]:
        state = await self._desk.threads.latest(self._key)
        return record_of(self._key, state).said if state else ()

    async def _pending(self) -> ReviewRequested | None:
        from .conversation_runner import open_review

        state = await self._desk.threads.latest(self._key)
        return open_review(state) if state else None

    async def _export(self) -> ThreadRecord:
        return record_of(self._key, await self._desk.known(self._key))

    async def _awaited(self, work: Coroutine[object, object, T]) -> T:
        return await asyncio.wrap_future(self._loop.submit(work))


async def turn_of(events: AsyncIterator[Event]) -> Turn:
    """Gather the events of a turn; of several turns the last one counts."""
    found: list[Event] = [event async for event in events]
    last = found[-1]
    evidence = tuple(event for event in found if isinstance(event, EvidenceArrived))
    diagnosis: Diagnosis | None = None
    if isinstance(last, ReviewRequested):
        diagnosis = last.diagnosis
    final = last if isinstance(last, Final) else Final(diagnosis=diagnosis)
    return Turn(
        text=final.text,
        diagnosis=final.diagnosis,
        diagnoses=final.diagnoses,
        notes=final.notes,
        review=last if isinstance(last, ReviewRequested) else None,
        evidence=evidence,
    )
