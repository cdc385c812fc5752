"""The fixed protocol step by step: evidence as it arrives, then the diagnosis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig

from ..case import Diagnosis
from .diagnosis import diagnosis_graph
from .diagnosis_context import DiagnosisContext
from .events import EvidenceArrived
from .state import DiagnosisInput

_ALONE: RunnableConfig = {"configurable": {"__pregel_durability": "async"}}
"""Run by a node of a graph that writes its checkpoints synchronously, this graph would inherit that, and
LangGraph 1.2 then awaits a write that a graph without checkpoints never makes."""
_EVIDENCE = ("gate", "opinions", "similar_cases", "missing")


async def unfold(
    given: DiagnosisInput, collaboration: DiagnosisContext
) -> AsyncIterator[EvidenceArrived | Diagnosis]:
    """Diagnose a case; the last thing that is yielded is the diagnosis.

    Args:
        given: what the diagnosis graph is given.
        collaboration: who takes part.

    Raises:
        GscoError: as ``GSCo.diagnose``.
    """
    image, name = given["case"].images[0].id, given.get("task") or ""
    async for chunk in diagnosis_graph().astream(given, _ALONE, context=collaboration, stream_mode="updates"):
        for update in _updates(chunk):
            if gate := update.get("gate"):
                name = gate.task
            found = {field: value for field in _EVIDENCE if (value := update.get(field))}
            if found:
                yield EvidenceArrived(image=image, task=name, **found)
            if diagnosis := update.get("diagnosis"):
                yield diagnosis


def _updates(chunk: Mapping[str, object]) -> list[Mapping[str, Any]]:
    return [update for update in chunk.values() if isinstance(update, Mapping)]
