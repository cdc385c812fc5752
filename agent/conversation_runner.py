"""Where consultations are held: runs the graph for each conversation, one turn of it at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast
from uuid import uuid4
from weakref import WeakValueDictionary

from ..case import ImageRef, ReviewDecision
from ..errors import GscoError, ReviewOpen, ThreadError, ThreadUnknown
from .conversation_store import ConversationKey, ConversationStore

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langgraph.checkpoint.base import CheckpointTuple

    from ..graphs.consultation import ConsultationGraph
    from ..graphs.consultation_context import ConsultationContext, ConsultationState
    from ..graphs.events import Event, Finding, ReviewRequested
    from ..images import ImageStore


@dataclass(frozen=True)
class PastConversation:
    """What was said before, in a conversation that others keep; a new one begins with it."""

    messages: tuple[BaseMessage, ...] = ()
    """The user's and the generalist's, with images by id."""
    images: tuple[ImageRef, ...] = ()
    findings: Mapping[str, Finding] = field(default_factory=dict)
    """What was found in it, by id; each names the message that led to it."""


@dataclass(frozen=True)
class UserTurn:
    """What a user says in one turn."""

    text: str
    images: tuple[ImageRef, ...] = ()
    about: Mapping[str, str | None] = field(default_factory=dict)
    """Task, group and context of the conversation, where they are given."""
    earlier: PastConversation = PastConversation()
    """Told of a new conversation; one that is known has its own past."""


class ConversationRunner:
    """Holds consultations. All methods run in one event loop.

    Args:
        threads: where conversations are kept.
        images: removed with the conversation that they were shown in, unless another refers to them;
            None leaves them.
        others: other places where conversations are that may refer to them.
        consulting: who takes part, once everything is loaded.
    """

    def __init__(
        self,
        threads: ConversationStore,
        consulting: Callable[[], Awaitable[ConsultationContext]],
        images: ImageStore | None = None,
        others: Sequence[ConversationStore] = (),
    ) -> None:
        self.threads = threads
        self._images = images
        self._others = others
        self._consulting = consulting
        self._turns: WeakValueDictionary[ConversationKey, asyncio.Lock] = WeakValueDictionary()
        self._graph: tuple[int, ConsultationGraph] | None = None

    async def take_turn(self, key: ConversationKey, said: UserTurn) -> AsyncIterator[Event]:
        """Take a turn: what the user says, then events until it is over or a person must decide.

        A turn that was cut off before is finished first, with its events.

        Raises:
            ReviewOpen: a person must decide on the last turn first.
            GscoError: of what kind, says what went wrong. The conversation is kept up to there.
        """
        async with self._turn(key):
            state = await self.threads.latest(key)
            if state is not None and open_review(state):
                raise ReviewOpen("a person must decide on the last diagnosis first; resume with a decision")
            if state is not None and unfinished(state):
                async for event in self._rest(key):
                    yield event
                if open_review(await self.known(key)):
                    raise ReviewOpen("a person must decide on the last diagnosis first; then ask again")
            async for event in self._run(key, _begun(said, new=state is None)):
                yield event

    async def keep(self, key: ConversationKey, said: UserTurn) -> bool:
        """Write a message down as the beginning of a turn, which ``resumed`` goes on with.

        False where it cannot be kept: the last turn is not finished, or waits for a person.
        """
        async with self._turn(key):
            state = await self.threads.latest(key)
            if state is not None and (open_review(state) or unfinished(state)):
                return False
            graph = await self._compiled(await self._consulting())
            async with self.threads.failures():
                await graph.aupdate_state(key.config, _begun(said, new=state is None), as_node="__start__")
            return True

    async def resumed(self, key: ConversationKey, decision: ReviewDecision | None) -> AsyncIterator[Event]:
        """Go on with a turn that waits for a decision, or that was cut off.

        Raises:
            ThreadUnknown: there is no such conversation.
            ReviewOpen: a decision is needed and none is given.
            ThreadError: a decision is given and none is asked for, or it does not fit.
        """
        from langgraph.types import Command

        from ..graphs.middleware.human_review import check

        async with self._turn(key):
            state = await self.known(key)
            asked = open_review(state)
            if asked is None and decision is not None:
                raise ThreadError("this conversation is not waiting for a decision")
            if asked is not None and decision is None:
                raise ReviewOpen("a person must decide on the last diagnosis; resume with a decision")
            if asked is not None and decision is not None:
                check(decision, asked)
                given = Command(resume=decision.model_dump(mode="json"))
            elif unfinished(state):
                given = None
            else:
                raise ThreadError("there is nothing to resume: the last turn is complete")
            async for event in self._run(key, given):
                yield event

    async def wait_idle(self, key: ConversationKey) -> None:
        """Wait until no turn of a conversation runs."""
        async with self._turn(key):
            pass

    async def known(self, key: ConversationKey) -> CheckpointTuple:
        """The conversation as it stands.

        Raises:
            ThreadUnknown: there is none of that name.
        """
        state = await self.threads.latest(key)
        if state is None:
            raise ThreadUnknown(f"there is no conversation named {key.thread!r}")
        return state

    async def delete(self, key: ConversationKey) -> None:
        """Delete a conversation, after the turn that runs, and the images that only it refers to.

        Raises:
            ThreadUnknown: there is none of that name.
        """
        from .erasure import images_in, remove_unreferenced

        async with self._turn(key):
            await self.known(key)
            hashes = {one async for state in self.threads.of_key(key) for one in images_in(state)}
            await self.threads.delete(key)
            if self._images is not None:
                await remove_unreferenced([self.threads, *self._others], self._images, hashes)

    @asynccontextmanager
    async def _turn(self, key: ConversationKey) -> AsyncGenerator[None]:
        """One turn of a conversation at a time, in this process and in others."""
        lock = self._turns.get(key)
        if lock is None:
            lock = self._turns[key] = asyncio.Lock()
        async with lock, self.threads.turn(key):
            yield

    async def _run(self, key: ConversationKey, given: object) -> AsyncIterator[Event]:
        from ..graphs.middleware.end_of_turn import closing
        from .streaming import events_of

        consulting = await self._consulting()
        graph = await self._compiled(consulting)
        running = graph.astream(
            given,
            key.config,
            context=consulting,
            stream_mode=["messages", "updates", "custom"],
            durability="sync",
        )
        stopped = False
        async with self.threads.failures():
            async for event in events_of(running):
                stopped = stopped or event.kind == "review"
                yield event
        if not stopped:
            values = cast("ConsultationState", (await self.known(key)).checkpoint["channel_values"])
            await self.threads.prune(key)
            yield closing(values, consulting)

    async def _rest(self, key: ConversationKey) -> AsyncIterator[Event]:
        """Finish a turn that was cut off. Where that fails again it is given up: the conversation goes on."""
        try:
            async for event in self._run(key, None):
                yield event
        except GscoError:
            return

    async def _compiled(self, consulting: ConsultationContext) -> ConsultationGraph:
        """The graph for this generalist; compiled once."""
        from ..graphs.consultation import build_consultation_graph

        if self._graph is None or self._graph[0] != id(consulting.generalist):
            tools = consulting.toolbox({}).tools()
            graph = build_consultation_graph(
                consulting.generalist.chat_model(), tools, await self.threads.saver()
            )
            self._graph = (id(consulting.generalist), graph)
        return self._graph[1]


def _begun(said: UserTurn, *, new: bool) -> dict[str, object]:
    """What the graph gets at the beginning of a turn."""
    from langchain_core.messages import HumanMessage

    from ..models.generalist.messages import message

    turn, earlier = uuid4().hex, said.earlier if new else PastConversation()
    content = message("human", said.text, [ref.id for ref in said.images]).content
    return {
        "messages": [*earlier.messages, HumanMessage(content, id=turn)],
        "turn": turn,
        "images": (*earlier.images, *said.images),
        "findings": dict(earlier.findings),
        **{name: value for name, value in said.about.items() if value is not None},
    }


def open_review(state: CheckpointTuple) -> ReviewRequested | None:
    """What a person is asked in a conversation; None where nobody is."""
    from ..graphs.events import ReviewRequested

    for _, channel, value in state.pending_writes or ():
        if channel == "__interrupt__":
            interrupt = value[-1] if isinstance(value, Sequence) else value
            return ReviewRequested.model_validate(interrupt.value)
    return None


def unfinished(state: CheckpointTuple) -> bool:
    """Whether the latest turn was cut off, or waits for a person."""
    values = state.checkpoint["channel_values"]
    return values.get("over") != values.get("turn")
