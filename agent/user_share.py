"""A share for each user, so that one user's requests do not keep others from being answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager


class TooManyRequests(Exception):
    """A user has as many requests running as one user may."""


class UserShare:
    """Counts what runs for each user. Used in one event loop.

    Args:
        limit: for one user.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: Counter[str] = Counter()

    @contextmanager
    def turn(self, user: str) -> Generator[None]:
        """Count one more while the block runs.

        Raises:
            TooManyRequests: the user has its share already.
        """
        if self._running[user] >= self._limit:
            raise TooManyRequests(
                f"{self._limit} of your requests are running already; try again when one has finished"
            )
        self._running[user] += 1
        try:
            yield
        finally:
            self._running[user] -= 1
            if not self._running[user]:
                del self._running[user]
