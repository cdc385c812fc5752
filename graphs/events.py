"""What happens while a case is diagnosed or discussed, as typed events, in the order in which it happens.

Every event is a frozen record with a ``kind``, so that it can be told apart after a trip through JSON:
``EVENT.validate_json(event.model_dump_json()) == event``. A turn ends with ``Final``, or with
``ReviewRequested`` where a person must decide before it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from ..case import Diagnosis, GateReport, ImageRef, Missing, Opinion, Probability, Record, SimilarCase


class EvidenceArrived(Record):
    """A piece of evidence: whichever field is set, as soon as it is there."""

    kind: Literal["evidence"] = "evidence"
    image: str
    """Id of the image that it is about."""
    task: str
    gate: GateReport | None = None
    opinions: tuple[Opinion, ...] = ()
    similar_cases: tuple[SimilarCase, ...] = ()
    missing: tuple[Missing, ...] = ()


class ToolStarted(Record):
    """The generalist called a tool, or the fixed protocol began."""

    kind: Literal["tool_started"] = "tool_started"
    call: str
    """Id of the call, the same in ``ToolFinished``."""
    name: str
    arguments: Mapping[str, object] = Field(default_factory=dict)


class ToolFinished(Record):
    """A tool answered."""

    kind: Literal["tool_finished"] = "tool_finished"
    call: str
    name: str
    failed: bool = False
    """The tool said in ``text`` what went wrong; the generalist can act on it."""
    text: str = ""
    """What the generalist was told."""
    diagnosis: Diagnosis | None = None
    """What ``diagnose`` found."""
    seconds: float = 0.0


class Text(Record):
    """A piece of the generalist's answer; the pieces of a turn follow each other."""

    kind: Literal["text"] = "text"
    text: str


class ReviewRequested(Record):
    """The turn stops until a reviewer decides; answer with ``Conversation.resume(ReviewDecision(…))``."""

    kind: Literal["review"] = "review"
    id: str
    """Of the finding that is to be reviewed."""
    diagnosis: Diagnosis
    reasons: tuple[str, ...] = ()
    """Why a person is asked, in plain words."""
    options: tuple[str, ...] = ()
    """The labels that an edit may choose from."""
    several: bool = False
    """Whether an edit may name more than one label."""


class Final(Record):
    """The turn is over."""

    kind: Literal["final"] = "final"
    text: str = ""
    """The whole answer."""
    diagnosis: Diagnosis | None = None
    """The decision of this turn, with its evidence and its review; None where nothing was to be diagnosed.
    Where the words and the decision differ, the decision counts and ``notes`` say so."""
    diagnoses: tuple[Diagnosis, ...] = ()
    """All of this turn, where it had several."""
    notes: tuple[str, ...] = ()
    """What a reader must know besides."""


Event = EvidenceArrived | ToolStarted | ToolFinished | Text | ReviewRequested | Final
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])
"""Reads an event of unknown kind from JSON or a mapping."""


class Likeness(Record):
    """What an image that was not diagnosed looks like: the nearest kind of known image."""

    task: str
    modality: str
    share: Probability
    """Of the nearest known cases, over all tasks, that belong to this one."""
    similarity: float
    """To the nearest of them."""
    usual: float | None = None
    """Similarity that images of this kind usually reach at least; None where it is not known."""


class Finding(Record):
    """What one tool call found, as it is kept with the conversation.

    It is keyed by the call's id, so that a call that is carried out again after a crash leaves one record.
    """

    id: str
    turn: str
    """Id of the user's message that led to it."""
    tool: str
    image: ImageRef | None = None
    task: str | None = None
    opinions: tuple[Opinion, ...] = ()
    similar_cases: tuple[SimilarCase, ...] = ()
    missing: tuple[Missing, ...] = ()
    diagnosis: Diagnosis | None = None
    tasks: tuple[str, ...] = ()
    """Names of the tasks that were listed."""
    likeness: Likeness | None = None
    """Of an image that no task fits."""
