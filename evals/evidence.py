"""The evidence of cases through the real graph, when no generalist is to be asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from ..agent.api import GSCo
from ..case import Answer, Evidence
from ..errors import GeneralistError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.tools import BaseTool

    from ..models.generalist.protocol import Choice
    from ..tools.stores.protocol import CaseStore

_NOBODY = "no generalist takes part here: only evidence is gathered"


class Nobody:
    """Stands in the generalist's place where only the evidence is wanted; it looks at nothing."""

    name = "nobody"
    version = ""
    batch_size = 1024

    def choose(self, requests: Sequence[Choice]) -> list[Answer | GeneralistError]:
        """Return the first option of each, without reading it."""
        return [Answer(labels=request.options[:1], parse="exact") for request in requests]

    def generate(
        self, requests: Sequence[Sequence[BaseMessage]], *, max_new_tokens: int = 256
    ) -> list[str | GeneralistError]:
        """Return empty texts."""
        return ["" for _ in requests]

    def stream(self, messages: Sequence[BaseMessage], *, max_new_tokens: int = 256) -> Iterator[str]:
        """Yield nothing."""
        return iter(())

    def call_tools(self, messages: Sequence[BaseMessage], tools: Sequence[BaseTool]) -> AIMessage:
        """Refuse."""
        raise GeneralistError(_NOBODY)

    def chat_model(self) -> BaseChatModel:
        """Refuse."""
        raise GeneralistError(_NOBODY)


class _Lent:
    """A store that whoever borrowed it cannot close."""

    def __init__(self, store: CaseStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def close(self) -> None:
        """Leave it open for its owner."""


def without_generalist(gsco: GSCo) -> GSCo:
    """Return the same specialists, store and images with nobody in the generalist's place.

    It must be closed before ``gsco`` is, and leaves the store open.
    """
    return GSCo(
        tasks=gsco.tasks,
        panels=gsco.panels,
        store=lambda: cast("CaseStore", _Lent(gsco.retrieval.store())),
        generalist=Nobody(),
        images=gsco.images,
    )


def slim(evidence: Evidence) -> Evidence:
    """Leave out the report texts of similar cases: clinical text is not written to a run's folder."""
    cases = [case.model_copy(update={"report": None}) for case in evidence.similar_cases]
    return evidence.model_copy(update={"similar_cases": tuple(cases)})
