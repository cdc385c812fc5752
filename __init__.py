"""Generalist-specialist collaboration for medical images.

A vision-language generalist decides with the opinions of specialist classifiers and the diagnoses
of the most similar known cases in its context. Research software, not a medical device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .library_logging import guard_libraries

if TYPE_CHECKING:
    from .agent.api import GSCo
    from .case import Case, Diagnosis, Task

__version__ = "0.1.0"

__all__ = ["Case", "Diagnosis", "GSCo", "Task", "__version__"]

_HOMES = {"GSCo": "agent.api", "Case": "case", "Diagnosis": "case", "Task": "case"}

guard_libraries()


def __getattr__(name: str) -> object:
    """Import the public names at first use, so that ``import gsco`` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
