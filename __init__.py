"""Generalist-specialist collaboration for medical images.

A vision-language generalist, specialist classifiers and the most similar known cases decide together.
Research software, not a medical device.

Everything that ``__all__`` names can be imported from here; each name is loaded at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .library_logging import guard_libraries

if TYPE_CHECKING:
    from .agent.api import GSCo
    from .agent.conversation import Conversation
    from .agent.records import Turn
    from .case import (
        Answer,
        Case,
        Diagnosis,
        Evidence,
        ImageRef,
        Missing,
        Opinion,
        ReviewDecision,
        SimilarCase,
        Task,
        TaskKind,
    )
    from .errors import (
        AnswerUnparsed,
        CallUnreadable,
        ConfigurationError,
        ConversationsUnavailable,
        DiskError,
        EvidenceMissing,
        GeneralistError,
        GscoError,
        ImageError,
        ImageMissing,
        ImageTooLarge,
        ImageUnreadable,
        ImageUnsupported,
        PromptTooLong,
        ReviewOpen,
        ReviewRefused,
        SpecialistError,
        StoreError,
        TaskError,
        TaskMismatch,
        TaskUnknown,
        TextTooLong,
        ThreadError,
        ThreadUnknown,
        TooManyImages,
        UnknownArgument,
        VectorMismatch,
    )
    from .models.generalist.protocol import AsyncGeneralist, Choice, Generalist
    from .models.specialist.protocol import EmbeddingSpecialist, Specialist
    from .settings import Settings
    from .tools.stores.protocol import CaseStore, Entry, Exclusion, Filter, KnownCase

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AnswerUnparsed",
    "AsyncGeneralist",
    "CallUnreadable",
    "Case",
    "CaseStore",
    "Choice",
    "ConfigurationError",
    "Conversation",
    "ConversationsUnavailable",
    "Diagnosis",
    "DiskError",
    "EmbeddingSpecialist",
    "Entry",
    "Evidence",
    "EvidenceMissing",
    "Exclusion",
    "Filter",
    "GSCo",
    "Generalist",
    "GeneralistError",
    "GscoError",
    "ImageError",
    "ImageMissing",
    "ImageRef",
    "ImageTooLarge",
    "ImageUnreadable",
    "ImageUnsupported",
    "KnownCase",
    "Missing",
    "Opinion",
    "PromptTooLong",
    "ReviewDecision",
    "ReviewOpen",
    "ReviewRefused",
    "Settings",
    "SimilarCase",
    "Specialist",
    "SpecialistError",
    "StoreError",
    "Task",
    "TaskError",
    "TaskKind",
    "TaskMismatch",
    "TaskUnknown",
    "TextTooLong",
    "ThreadError",
    "ThreadUnknown",
    "TooManyImages",
    "Turn",
    "UnknownArgument",
    "VectorMismatch",
    "__version__",
]

_HOMES = {
    "agent.api": ("GSCo",),
    "agent.conversation": ("Conversation",),
    "agent.records": ("Turn",),
    "case": (
        *("Answer", "Case", "Diagnosis", "Evidence", "ImageRef", "Missing", "Opinion", "ReviewDecision"),
        *("SimilarCase", "Task", "TaskKind"),
    ),
    "models.generalist.protocol": ("AsyncGeneralist", "Choice", "Generalist"),
    "models.specialist.protocol": ("EmbeddingSpecialist", "Specialist"),
    "settings": ("Settings",),
    "tools.stores.protocol": ("CaseStore", "Entry", "Exclusion", "Filter", "KnownCase"),
}
"""Names by their module; all others are errors."""
guard_libraries()


def __getattr__(name: str) -> object:
    """Import the public names at first use, so that ``import gsco`` stays light."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = next((module for module, names in _HOMES.items() if name in names), "errors")
    found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return found


def __dir__() -> list[str]:
    """List the public names, whether they were used or not."""
    return sorted({*globals(), *__all__})
