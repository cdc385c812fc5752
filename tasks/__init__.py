"""Task cards: the built-in ones of this folder, and the user's own.

A card is a TOML or JSON file with the fields of ``case.Task``. A user's card that bears the name of a
built-in one must say ``override = true``.
"""

from __future__ import annotations

from .book import TaskBook, builtin_tasks
from .card import load_task

__all__ = ["TaskBook", "builtin_tasks", "load_task"]
