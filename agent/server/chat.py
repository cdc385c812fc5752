"""A turn of a chat, whole or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...case import Diagnosis
from ...errors import GscoError, ThreadUnknown
from ...graphs.events import Event, EvidenceArrived, Final, ReviewRequested
from ..conversation import NOTHING
from ..streaming import breathing
from . import conversation, schema
from .chat_answer import ChatAnswer, ClientTaskAnswer, Piece
from .client_tasks import task_answer
from .errors import ApiError, api_error_of
from .json_answer import check_format, json_answer
from .markdown import after_stream, footer, reasoning, review_question
from .telemetry import LOG, unexpected, where

if TYPE_CHECKING:
    from ..api import GSCo
    from ..conversation import Conversation
    from ..conversation_runner import PastConversation
    from .earlier_evidence import EarlierEvidence
    from .policy import ServerPolicy
    from .telemetry import Metrics


@dataclass(kw_only=True)
class ChatTurn(ChatAnswer):
    """The answer of the agent: the consultation that gives it, and what becomes of it.

    Attributes:
        consultation: a kept thread's, or one that is forgotten after the answer.
        parsed: what the client sent.
        options: of gsco's.
        evidence: behind the earlier answers.
        metrics: are told of every event.
        ignored: what of the request has no effect.
    """

    consultation: Conversation
    parsed: conversation.ParsedConversation
    options: schema.Options
    evidence: EarlierEvidence
    metrics: Metrics
    ignored: dict[str, str]

    @property
    def kept(self) -> bool:
        """Whether the client named a thread."""
        return self.options.thread is not None

    @property
    def shows_tools(self) -> bool:
        """Whether tool calls are shown."""
        return self.options.tools == "shown"

    async def pieces(self, *, streamed: bool) -> AsyncGenerator[Piece]:
        """Take the turn and yield the answer as it comes; a thread that nobody named is then forgotten.

        Args:
            streamed: yield words as the generalist says them; else the whole answer at the end.
        """
        as_json = check_format(self.request.response_format)
        streamed = streamed and not as_json
        evidence: list[EvidenceArrived] = []
        reviewed, spoken = False, ""
        earlier = await self._earlier()
        events = self.consultation.astream(self.parsed.text, self.parsed.images, earlier=earlier)
        try:
            async with aclosing(events):
                async for event in events:
                    self.metrics.count_event(event)
                    if isinstance(event, EvidenceArrived):
                        evidence.append(event)
                    if isinstance(event, Final | ReviewRequested):
                        reviewed = isinstance(event, ReviewRequested)
                        self._close(event, tuple(evidence))
                    piece = self._piece(event, spoken, streamed)
                    spoken += event.text if event.kind == "text" else ""
                    if as_json and isinstance(event, Final | ReviewRequested):
                        piece = Piece(words=json_answer(self.request, await self._diagnoses()))
                    if piece.words or piece.reasoning:
                        yield piece
        finally:
            if not self.kept and not reviewed:
                with suppress(ThreadUnknown):
                    await self.consultation.adelete()

    async def _earlier(self) -> PastConversation:
        """What a new conversation begins with; one that is kept knows its own past."""
        if not self.parsed.earlier or (self.kept and await self.consultation.ahistory()):
            return NOTHING
        return await self.evidence.earlier(self.consultation.user, self.options, self.parsed.earlier)

    async def _diagnoses(self) -> tuple[Diagnosis, ...]:
        """Of this turn, or else the latest of the conversation."""
        if self.outcome.diagnosis is not None:
            return self.outcome.diagnoses or (self.outcome.diagnosis,)
        found = (await self.consultation.aexport()).findings
        return tuple(one.diagnosis for one in found if one.diagnosis)[-1:]

    def _piece(self, event: Event, spoken: str, streamed: bool) -> Piece:
        if event.kind == "text":
            return Piece(words=event.text if streamed else "")
        before = "\n\n" if spoken else ""
        if event.kind == "review":
            unsaid = "" if streamed else spoken
            return Piece(words=unsaid + before + review_question(event, self.consultation.thread_id))
        if event.kind == "final":
            if not streamed:
                return Piece(words="\n\n".join(filter(None, [event.text, footer(event)])))
            end = after_stream(event, spoken)
            return Piece(words=before + end if end else "")
        return Piece(reasoning=reasoning(event) if self.shows_tools else "")

    def _close(self, event: Final | ReviewRequested, evidence: tuple[EvidenceArrived, ...]) -> None:
        waits = isinstance(event, ReviewRequested)
        self.outcome = schema.GscoFields(
            thread=self.consultation.thread_id if self.kept or waits else None,
            diagnosis=event.diagnosis,
            diagnoses=() if isinstance(event, ReviewRequested) else event.diagnoses,
            notes=() if isinstance(event, ReviewRequested) else event.notes,
            review=event if isinstance(event, ReviewRequested) else None,
            evidence=evidence if self.shows_tools else (),
            ignored=self.ignored,
        )
        images = [*(ref for one in self.parsed.earlier for ref in one.images), *self.parsed.images]
        diagnoses = self.outcome.diagnoses or ((event.diagnosis,) if event.diagnosis else ())
        self.evidence.remember(self.consultation.user, self.options, images, diagnoses)


async def begin(
    gsco: GSCo,
    request: schema.ChatRequest,
    *,
    user: str,
    thread: str | None,
    metrics: Metrics,
    evidence: EarlierEvidence,
) -> ChatAnswer:
    """Read a request and open the consultation that answers it.

    Raises:
        Problem: the request cannot be answered.
        GscoError: an image, a task or a thread's name cannot be used.
    """
    words = task_answer(request)
    if words is not None and conversation.model_name(request.model) is not None:
        return ClientTaskAnswer(request=request, words=words)
    options = conversation.options_of(request, thread)
    ignored = conversation.ignored_fields(request)
    check_format(request.response_format)
    parsed = await conversation.parse_conversation(request, gsco.images)
    ignored |= parsed.ignored
    context = parsed.instructions
    if context and (options.task is None or gsco.tasks.get(options.task).kind.closed):
        # Words of the client's must not reach the prompt of a closed diagnosis.
        ignored["system"] = "system messages do not change a diagnosis"
        context = None
    consultation = gsco.consult(
        options.thread,
        user=user,
        task=options.task,
        group=options.group,
        context=context,
        keep=options.thread is not None or gsco.reviews,
    )
    return ChatTurn(
        request=request,
        consultation=consultation,
        parsed=parsed,
        options=options,
        evidence=evidence,
        metrics=metrics,
        ignored=ignored,
    )


async def whole(turn: ChatAnswer, policy: ServerPolicy) -> schema.Completion:
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


async def streamed(turn: ChatAnswer, policy: ServerPolicy, request_id: str) -> AsyncIterator[str]:
    """Take the turn and yield OpenAI's events. What fails now is an event: the status is out already."""
    yield _event(turn.chunk({"role": "assistant", "content": ""}))
    said = ""
    try:
        async with (
            aclosing(turn.pieces(streamed=True)) as pieces,
            aclosing(breathing(pieces, policy.seconds)) as breaths,
        ):
            async for piece in breaths:
                if piece is None:
                    yield ": working\n\n"
                    continue
                said += piece.words + piece.reasoning
                named = {"content": piece.words, "reasoning_content": piece.reasoning}
                yield _event(turn.chunk({name: text for name, text in named.items() if text}))
    except Exception as error:
        yield _event(_failure(error, policy, request_id).body())
    else:
        yield _event(turn.chunk({}, "stop", gsco=turn.outcome.model_dump(mode="json")))
        options = turn.request.stream_options
        if options is not None and options.include_usage:
            yield _event(turn.usage_chunk(said))
    yield "data: [DONE]\n\n"


def too_slow(policy: ServerPolicy) -> ApiError:
    """What is answered where it took too long."""
    return ApiError(
        504,
        f"no answer within {policy.seconds:g} s; ask for less at once, or set GSCO_API_TIMEOUT",
        "timeout",
    )


def _failure(error: Exception, policy: ServerPolicy, request_id: str) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, TimeoutError):
        return too_slow(policy)
    if isinstance(error, GscoError):
        return api_error_of(error)
    LOG.error("request %s failed: %s\n%s", request_id, type(error).__name__, where(error))
    return unexpected(request_id)


def _event(content: dict[str, object]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
