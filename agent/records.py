"""A conversation as it is shown, listed and exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from ..case import DISCLAIMER, Diagnosis, ImageRef, Record
from ..graphs.events import EvidenceArrived, Finding, ReviewRequested
from .conversation_store import ConversationKey

if TYPE_CHECKING:
    from langchain_core.messages import AnyMessage
    from langgraph.checkpoint.base import CheckpointTuple

TITLE = 60
"""A listed conversation is named by so many characters of what was said first."""


class Turn(Record):
    """How a turn ended."""

    text: str = ""
    """The generalist's answer."""
    diagnosis: Diagnosis | None = None
    """The decision of this turn; where ``review`` is set, what a person is asked about."""
    diagnoses: tuple[Diagnosis, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader must also know."""
    review: ReviewRequested | None = None
    """Set if a person must decide before the conversation continues."""
    evidence: tuple[EvidenceArrived, ...] = ()


class Call(Record):
    """A tool call by the generalist."""

    id: str
    name: str
    arguments: Mapping[str, object]


class Utterance(Record):
    """A message of one party."""

    role: Literal["user", "assistant", "tool"]
    text: str
    images: tuple[str, ...] = ()
    """Ids of the images sent with it."""
    turn: str | None = None
    """Of a user's: the turn that it began; what was found in it names it too."""
    calls: tuple[Call, ...] = ()
    tool: str | None = None
    """Which tool answered, and in ``call`` to what."""
    call: str | None = None


class ThreadRecord(Record):
    """A whole conversation."""

    thread_id: str
    user: str
    updated: datetime
    status: Literal["ready", "review", "cut off"]
    """``review``: a person must decide; ``cut off``: the last turn did not end."""
    task: str | None = None
    group: str | None = None
    context: str | None = None
    images: tuple[ImageRef, ...] = ()
    said: tuple[Utterance, ...] = ()
    findings: tuple[Finding, ...] = ()
    """Everything that tools found, with its provenance, and every review."""
    disclaimer: str = DISCLAIMER


class ThreadSummary(Record):
    """A conversation in a list."""

    thread_id: str
    user: str
    title: str
    updated: datetime
    status: Literal["ready", "review", "cut off"]
    turns: int
    image: str | None = None
    """Id of the image that was shown last."""
    decision: str = ""
    """The last diagnosis and how sure it is, in a few words; empty where there is none."""


def record_of(key: ConversationKey, state: CheckpointTuple) -> ThreadRecord:
    """Read a conversation from its checkpoint."""
    values = state.checkpoint["channel_values"]
    return ThreadRecord(
        thread_id=key.thread,
        user=key.user,
        updated=_time(state),
        status=_status(state),
        task=values.get("task"),
        group=values.get("group"),
        context=values.get("context"),
        images=tuple(values.get("images") or ()),
        said=tuple(_utterances(values)),
        findings=tuple((values.get("findings") or {}).values()),
    )


def summary_of(state: CheckpointTuple) -> ThreadSummary:
    """Name a conversation for a list."""
    from .reports.view import decision_words

    user, _, thread = state.config.get("configurable", {})["thread_id"].partition("/")
    values = state.checkpoint["channel_values"]
    asked = [one for one in _utterances(values) if one.role == "user"]
    images = values.get("images") or ()
    found = [one.diagnosis for one in (values.get("findings") or {}).values() if one.diagnosis is not None]
    words = _short(asked[0].text) if asked else ""
    return ThreadSummary(
        thread_id=thread,
        user=user,
        title=words,
        updated=_time(state),
        status=_status(state),
        turns=len(asked),
        image=images[-1].id if images else None,
        decision=_short(decision_words(found[-1])) if found else "",
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TITLE else line[: TITLE - 1] + "…"


def _time(state: CheckpointTuple) -> datetime:
    return datetime.fromisoformat(state.checkpoint["ts"])


def _status(state: CheckpointTuple) -> Literal["ready", "review", "cut off"]:
    from .conversation_runner import open_review, unfinished

    if open_review(state) is not None:
        return "review"
    return "cut off" if unfinished(state) else "ready"


def _utterances(values: Mapping[str, Any]) -> Iterator[Utterance]:
    for message in values.get("messages") or ():
        utterance = _utterance(message)
        if utterance is not None:
            yield utterance


def _utterance(message: AnyMessage) -> Utterance | None:
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

    from ..models.generalist.messages import parts

    images, text = parts(message)
    if isinstance(message, HumanMessage):
        return Utterance(role="user", text=text, images=images, turn=message.id)
    if isinstance(message, ToolMessage):
        return Utterance(role="tool", text=text, tool=message.name, call=message.tool_call_id)
    if not isinstance(message, AIMessage):
        return None
    calls = tuple(
        Call(id=call["id"] or "", name=call["name"], arguments=call["args"]) for call in message.tool_calls
    )
    return Utterance(role="assistant", text=text, calls=calls)
