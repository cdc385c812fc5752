"""A turn of a chat, whole or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ...errors import GscoError, ThreadUnknown
from ...graphs.events import Event, EvidenceArrived, Final, ReviewAsked
from ..streaming import breathing
from . import conversation, schema
from .observing import LOG, unexpected, where
from .problems import Problem, problem_of
from .wording import asking, closing, reasoning

if TYPE_CHECKING:
    from ..api import GSCo
    from ..consultation import Consultation
    from .observing import Metrics
    from .policy import ServerPolicy


@dataclass(frozen=True)
class Piece:
    """A piece of the answer: words, or reasoning."""

    words: str = ""
    reasoning: str = ""


@dataclass
class ChatTurn:
    """One request: the consultation that answers it, and what becomes of the answer.

    Attributes:
        consultation: a kept thread's, or one that is forgotten after the answer.
        told: what the client sent.
        options: of gsco's.
        model: as the client named it.
        kept: whether the client named a thread.
        metrics: are told of every event.
        id: of the completion.
        created: seconds since 1970.
        outcome: what gsco says besides the words; complete once the turn is over.
    """

    consultation: Consultation
    told: conversation.Told
    options: schema.Options
    model: str
    kept: bool
    metrics: Metrics
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    outcome: schema.Told = field(default_factory=schema.Told)

    @property
    def shown(self) -> bool:
        """Whether tool calls are shown."""
        return self.options.tools == "shown"

    async def pieces(self, *, streamed: bool) -> AsyncGenerator[Piece]:
        """Take the turn and yield the answer as it comes; a thread that nobody named is then forgotten.

        Args:
            streamed: yield words as the generalist says them, even though some may have to be corrected;
                else only those that stand.
        """
        evidence: list[EvidenceArrived] = []
        reviewed, spoken = False, ""
        events = self.consultation.astream(self.told.text, self.told.images, earlier=self.told.earlier)
        try:
            async with aclosing(events):
                async for event in events:
                    self.metrics.count_event(event)
                    if isinstance(event, EvidenceArrived):
                        evidence.append(event)
                    if isinstance(event, Final | ReviewAsked):
                        reviewed = isinstance(event, ReviewAsked)
                        self.outcome = self._outcome(event, tuple(evidence))
                    piece = self._piece(event, spoken, streamed)
                    spoken += event.text if event.kind == "text" else ""
                    if piece.words or piece.reasoning:
                        yield piece
        finally:
            if not self.kept and not reviewed:
                with suppress(ThreadUnknown):
                    await self.consultation.adelete()

    def completion(self, words: str, thought: str) -> schema.Completion:
        """The whole answer."""
        answer = schema.Answer(content=words, reasoning_content=thought or None)
        return schema.Completion(
            id=self.id, created=self.created, model=self.model, choices=[schema.Choice(message=answer)],
            gsco=self.outcome,
        )  # fmt: skip

    def chunk(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        """One chunk of the stream."""
        return {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            **more,
        }

    def _piece(self, event: Event, spoken: str, streamed: bool) -> Piece:
        if event.kind == "text":
            return Piece(words=event.text if streamed else "")
        before = "\n\n" if spoken else ""
        if event.kind == "review":
            unsaid = "" if streamed else spoken
            return Piece(words=unsaid + before + asking(event, self.consultation.thread_id))
        if event.kind == "final":
            if not streamed:
                return Piece(words="\n\n".join(filter(None, [event.text, closing(event)])))
            end = closing(event, corrected=True)
            return Piece(words=before + end if end else "")
        return Piece(reasoning=reasoning(event) if self.shown else "")

    def _outcome(self, event: Final | ReviewAsked, evidence: tuple[EvidenceArrived, ...]) -> schema.Told:
        waits = isinstance(event, ReviewAsked)
        return schema.Told(
            thread=self.consultation.thread_id if self.kept or waits else None,
            diagnosis=event.diagnosis,
            diagnoses=() if isinstance(event, ReviewAsked) else event.diagnoses,
            notes=() if isinstance(event, ReviewAsked) else event.notes,
            review=event if isinstance(event, ReviewAsked) else None,
            evidence=evidence if self.shown else (),
        )


async def begin(
    gsco: GSCo, request: schema.ChatRequest, *, user: str, thread: str | None, metrics: Metrics
) -> ChatTurn:
    """Read a request and open the consultation that answers it.

    Raises:
        Problem: the request cannot be answered.
        GscoError: an image, a task or a thread's name cannot be used.
    """
    options = conversation.options_of(request, thread)
    told = await conversation.told_by(request, gsco.images)
    kept = options.thread is not None
    consultation = gsco.consult(
        options.thread, user=user, task=options.task, group=options.group, context=told.context,
        keep=kept or gsco.reviews,
    )  # fmt: skip
    return ChatTurn(consultation, told, options, request.model, kept, metrics)


async def whole(turn: ChatTurn, policy: ServerPolicy) -> schema.Completion:
    """Take the turn and return the whole answer.

    Raises:
        Problem: it took too long.
        GscoError: it failed.
    """
    words, thought = [], []
    try:
        async with asyncio.timeout(policy.seconds), aclosing(turn.pieces(streamed=False)) as pieces:
            async for piece in pieces:
                words.append(piece.words)
                thought.append(piece.reasoning)
    except TimeoutError:
        raise too_slow(policy) from None
    return turn.completion("".join(words), "".join(thought))


async def streamed(turn: ChatTurn, policy: ServerPolicy, request_id: str) -> AsyncIterator[str]:
    """Take the turn and yield OpenAI's events. What fails now is an event: the status is out already."""
    yield _event(turn.chunk({"role": "assistant", "content": ""}))
    try:
        async with (
            aclosing(turn.pieces(streamed=True)) as pieces,
            aclosing(breathing(pieces, policy.seconds)) as breaths,
        ):
            async for piece in breaths:
                if piece is None:
                    yield ": working\n\n"
                    continue
                named = {"content": piece.words, "reasoning_content": piece.reasoning}
                yield _event(turn.chunk({name: text for name, text in named.items() if text}))
    except Exception as error:
        yield _event(_failure(error, policy, request_id).body())
    else:
        yield _event(turn.chunk({}, "stop", gsco=turn.outcome.model_dump(mode="json")))
    yield "data: [DONE]\n\n"


def too_slow(policy: ServerPolicy) -> Problem:
    """What is answered where it took too long."""
    return Problem(
        504,
        f"no answer within {policy.seconds:g} s; ask for less at once, or set GSCO_API_TIMEOUT",
        "timeout",
    )


def _failure(error: Exception, policy: ServerPolicy, request_id: str) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, TimeoutError):
        return too_slow(policy)
    if isinstance(error, GscoError):
        return problem_of(error)
    LOG.error("request %s failed: %s\n%s", request_id, type(error).__name__, where(error))
    return unexpected(request_id)


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
