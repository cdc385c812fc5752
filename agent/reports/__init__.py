"""What people look at: a diagnosis as bars, pictures and badges, and as a report of one page."""

from __future__ import annotations

from .view import CaseView, view_of

__all__ = ["CaseView", "view_of"]
