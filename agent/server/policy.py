"""What the server allows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from ..auth import Reviewers, Users

if TYPE_CHECKING:
    from ...settings import Settings


@dataclass(frozen=True)
class ServerPolicy:
    """Who may ask, how much, and how long it may take."""

    users: Users = field(default_factory=Users)
    """Without any, no key is asked, and only this machine is served."""
    reviewing: frozenset[str] = frozenset()
    """Users who decide on what others asked; see ``Reviewers``."""
    max_bytes: int = 32 * 2**20
    """Size of a request. An image in a data URI takes four bytes for three."""
    seconds: float = 300.0
    """An answer that takes longer is given up."""
    upload_seconds: float = 60.0
    """A request must have arrived whole by then."""
    pause_seconds: float = 15.0
    """Between two pieces of a request, at most."""
    at_once: int = 64
    """So many requests are worked on at once; further ones are told to come again."""
    user_at_once: int = 16
    """Of these, requests of one user, where users have keys."""
    bodies: int = 1024
    """Requests that may be arriving at once for one user without keys."""
    user_bodies: int = 64
    """The same where users have keys."""

    @property
    def reviewers(self) -> Reviewers:
        """Who may decide."""
        return Reviewers(self.users, self.reviewing)

    @property
    def held_bytes(self) -> int:
        """Bytes of requests that are held at once, arriving or being worked on."""
        return max(2 * self.max_bytes, self.at_once * self.max_bytes // 2)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read it from the settings.

        Raises:
            ConfigurationError: a key is wrong.
        """
        users = Users.from_settings(settings)
        return cls(
            users=users,
            reviewing=Reviewers.from_settings(settings, users).names,
            max_bytes=settings.api_max_bytes,
            seconds=settings.api_timeout,
            at_once=settings.api_concurrency,
            user_at_once=settings.api_user_concurrency,
        )
