"""What the diagnosis graph carries from node to node: records only, never an image's bytes."""

from __future__ import annotations

from collections.abc import Mapping
from operator import add, or_
from typing import TYPE_CHECKING, Annotated, Required, TypedDict

from ..case import (
    Answer,
    Case,
    Conflict,
    Diagnosis,
    Evidence,
    Fusion,
    GateReport,
    ImageRef,
    Missing,
    ObservedAccuracy,
    Opinion,
    Review,
    ReviewDecision,
    SimilarCase,
    Task,
    TaskKind,
    Voice,
)
from .events import Finding, Likeness

if TYPE_CHECKING:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

RECORDS = (
    Answer,
    Case,
    Conflict,
    ReviewDecision,
    Diagnosis,
    Evidence,
    Finding,
    Fusion,
    GateReport,
    ImageRef,
    Likeness,
    Missing,
    ObservedAccuracy,
    Opinion,
    Review,
    SimilarCase,
    Task,
    TaskKind,
    Voice,
)
"""Every type of ours that a checkpoint may hold."""


class DiagnosisInput(TypedDict, total=False):
    """What the graph is given."""

    case: Required[Case]
    task: str | None
    """Name of the task card; None lets the gate choose one."""
    timings: Annotated[Mapping[str, float], or_]
    """Seconds of what went before."""


class DiagnosisState(TypedDict):
    """One case on its way. Parallel branches add to the fields that have a reducer."""

    case: Case
    task: str | None
    gate: GateReport
    opinions: Annotated[tuple[Opinion, ...], add]
    similar_cases: Annotated[tuple[SimilarCase, ...], add]
    missing: Annotated[tuple[Missing, ...], add]
    evidence: Evidence
    answer: Answer | None
    """The generalist's; None where it was not asked."""
    diagnosis: Diagnosis
    timings: Annotated[Mapping[str, float], or_]
    """Seconds per step; one entry per specialist."""


class BranchInput(TypedDict):
    """What one branch of the fan-out is asked: the case, its task and, for moed, the specialist."""

    case: Case
    task: str
    specialist: str


def serializer() -> JsonPlusSerializer:
    """Return a serialiser for checkpointers that reads back these records and nothing else of ours."""
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    allowed = [(record.__module__, record.__name__) for record in RECORDS]
    return JsonPlusSerializer(allowed_msgpack_modules=allowed)
