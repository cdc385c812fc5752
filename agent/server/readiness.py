"""Whether the models are loaded: they are from the start on, and where that failed at the next question."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ...errors import GscoError
from .schema import Health
from .telemetry import LOG, where

if TYPE_CHECKING:
    from ..api import GSCo


class Readiness:
    """Loads everything in the background and tells how far it is."""

    def __init__(self, gsco: GSCo) -> None:
        self._gsco = gsco
        self._loading: asyncio.Task[None] | None = None
        self._failure = ""

    def look(self) -> Health:
        """Tell how it stands; loading begins, or begins again, with the question."""
        task = self._loading
        if task is not None and task.done() and not self._failure:
            return Health(status="ready")
        if task is None or task.done():
            before, self._failure = self._failure, ""
            self._loading = asyncio.create_task(self._load())
            if before:
                return Health(status="failed", reason=before)
        return Health(status="loading")

    async def _load(self) -> None:
        try:
            await asyncio.to_thread(self._gsco.load)
        except GscoError as error:
            self._failure = str(error)
        except Exception as error:
            LOG.error("loading failed: %s\n%s", type(error).__name__, where(error))
            self._failure = "an internal error; see the server's log"
