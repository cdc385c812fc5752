"""Who decides on a diagnosis under review: the authenticated user, or a reviewer other than who asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from ..errors import ConfigurationError, ReviewRefused, ThreadUnknown
from .auth import Users

if TYPE_CHECKING:
    from ..settings import Settings
    from .api import GSCo
    from .records import ThreadRecord


@dataclass(frozen=True)
class Reviewers:
    """The rule on who may decide, for API and page.

    Attributes:
        users: who has keys; without any, a decision is signed with the name that it is given under.
        names: users who decide, each on what another user asked; empty: every user on their own.
    """

    users: Users = field(default_factory=Users)
    names: frozenset[str] = frozenset()

    @classmethod
    def from_settings(cls, settings: Settings, users: Users) -> Self:
        """Read the rule from the settings.

        Raises:
            ConfigurationError: reviewers are named who have no key.
        """
        known = {name for _, name in users.digests}
        if missing := sorted(settings.reviewers - known):
            raise ConfigurationError(
                f"GSCO_REVIEWERS: {', '.join(missing)} has no key; a reviewer is a user of GSCO_API_KEYS"
            )
        return cls(users, settings.reviewers)

    def check(self, user: str, owner: str) -> None:
        """Refuse a decision that is not this user's to make.

        Args:
            user: who wants to decide.
            owner: whose conversation it is.

        Raises:
            ReviewRefused: somebody else must decide.
        """
        if not self.names and user != owner:
            raise ReviewRefused("a conversation of another user is not yours to decide on")
        if self.names and user not in self.names:
            raise ReviewRefused("you are no reviewer; one of GSCO_REVIEWERS decides on this diagnosis")
        if self.names and user == owner:
            raise ReviewRefused("another reviewer than the one who asked decides on this diagnosis")

    def signature(self, user: str, given: str) -> str:
        """The reviewer's name as it goes on record.

        Args:
            user: who decides.
            given: the name in the request or the form.

        Raises:
            ReviewRefused: a name is given that is not the user's.
        """
        given = given.strip()
        if not self.users:
            return given
        if given and given != user:
            raise ReviewRefused(f"the reviewer is the user of the API key, {user}; leave the name out")
        return user

    def reviews_others(self, user: str) -> bool:
        """Whether a user decides on what others asked."""
        return user in self.names


async def record_under_review(
    gsco: GSCo, reviewers: Reviewers, user: str, owner: str, thread: str
) -> ThreadRecord:
    """Another user's conversation, as long as it waits for a reviewer's decision.

    Raises:
        ReviewRefused: this user does not decide on it.
        ThreadUnknown: there is no such conversation, or it waits for no decision.
    """
    reviewers.check(user, owner)
    record = await gsco.consult(thread, user=owner).aexport()
    if record.status != "review":
        raise ThreadUnknown("no conversation of that name waits for a decision")
    return record
