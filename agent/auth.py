"""Who asks, and what belongs to whom: one rule for page, API server and MCP, which only translate it.

Users: with API keys, the user is the one whose key a request shows: in ``Authorization: Bearer KEY`` (API and
    MCP), or at the page's login, after which a cookie stands for it. Without keys, programs are the user
    ``local``, and each browser at the page is a user of its own, known by a cookie.
Machines: without keys, only this machine is served, and only under its own name.
Web pages: another page's request is refused where a browser would add what lets it in: the page's cookie, or,
    without keys, being on this machine. Another page has no API key to send.
Ownership: conversations, uploads, images and records are kept under their user's name and looked up under it,
    so that another user's look like missing ones.
Review: users decide on their own diagnoses; where reviewers are named, they decide on other users'.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from ..errors import ConfigurationError, ReviewRefused, ThreadError, ThreadUnknown
from .conversation_store import BROWSER, LOCAL, key_of
from .http_messages import RequestRefused, header

if TYPE_CHECKING:
    from starlette.types import Scope

    from ..settings import Settings
    from .api import GSCo
    from .records import ThreadRecord

SHORTEST = 16
"""A key has at least so many characters: nobody can guess it."""
COOKIE = "gsco_visitor"
SESSION = 12 * 3600
"""Seconds after which a user's key is asked for again."""
VISIT = 365 * 24 * 3600
"""Seconds for which a browser without a key finds its conversations again."""
_MAKE_ONE = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
_TOKEN = re.compile("[0-9a-f]{48}")


@dataclass(frozen=True)
class Users:
    """The users by digest of their key; the keys themselves are not kept."""

    digests: tuple[tuple[bytes, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``NAME:KEY`` pairs, with commas between them; a name may have several keys.

        Raises:
            ConfigurationError: an entry is no such pair, a name is not one, or a key is short or given twice.
                The message quotes no key.
        """
        digests: dict[bytes, str] = {}
        for place, entry in enumerate(filter(None, (entry.strip() for entry in text.split(","))), start=1):
            name, colon, key = entry.partition(":")
            if not colon:
                raise ConfigurationError(f"GSCO_API_KEYS: entry {place} is not NAME:KEY")
            try:
                key_of(name, "any")
            except ThreadError as error:
                raise ConfigurationError(f"GSCO_API_KEYS: entry {place}: {error}") from None
            if len(key) < SHORTEST:
                raise ConfigurationError(
                    f"GSCO_API_KEYS: the key of {name} is shorter than {SHORTEST} characters; {_MAKE_ONE}"
                )
            if _digest(key) in digests:
                raise ConfigurationError(f"GSCO_API_KEYS: {name} has another user's key; {_MAKE_ONE}")
            digests[_digest(key)] = name
        return cls(tuple(digests.items()))

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read the users from the settings.

        Raises:
            ConfigurationError: a key is wrong.
        """
        return cls.parse(settings.api_keys.get_secret_value())

    def __bool__(self) -> bool:
        return bool(self.digests)

    def owner(self, key: str) -> str | None:
        """Whose key this is; None for nobody's. How long it takes tells nothing about the keys."""
        if not self.digests:
            return LOCAL
        asked, found = _digest(key), None
        for digest, name in self.digests:
            if hmac.compare_digest(digest, asked):
                found = name
        return found


def user_by_key(scope: Scope, users: Users, *, public: bool = False) -> str:
    """The user of a request to the API or MCP; empty for something public, which needs no key.

    Raises:
        RequestRefused: the key is missing or wrong, or without keys the request is not from a program of
            this machine.
    """
    if not users:
        _check_host(scope)
        if is_foreign(scope):
            raise RequestRefused(403, "without API keys, web pages are refused", "origin_not_allowed")
    if public:
        return ""
    scheme, _, key = header(scope, b"authorization").partition(" ")
    user = users.owner(key.strip() if scheme.lower() == "bearer" else "")
    if user is None:
        advice = "send the header Authorization: Bearer KEY with one of the keys in GSCO_API_KEYS"
        raise RequestRefused(401, f"the API key is missing or wrong; {advice}", "invalid_api_key")
    return user


class BrowserSessions:
    """The users of the page, by cookie."""

    def __init__(self, users: Users) -> None:
        self.users = users
        self._inside: dict[str, tuple[str, float]] = {}

    def user(self, scope: Scope) -> tuple[str, str]:
        """The user of a request, and the cookie to set with the answer (empty for none).

        Raises:
            RequestRefused: another page sent it, nobody is logged in, or without keys it is not from this
                machine.
        """
        check_origin(scope)
        token = _cookie(scope)
        if self.users:
            user, until = self._inside.get(token, ("", 0.0))
            if until <= time.monotonic():
                raise RequestRefused(401, "load the page again and enter your key", "invalid_api_key")
            return user, ""
        _check_host(scope)
        if _TOKEN.fullmatch(token):
            return f"{BROWSER}{token}", ""
        token = secrets.token_hex(24)
        return f"{BROWSER}{token}", _cookie_of(token, VISIT)

    def log_in(self, key: str) -> str | None:
        """Begin a session and return the cookie to set; None where the key is wrong."""
        user = self.users.owner(key.strip())
        if user is None:
            return None
        now, token = time.monotonic(), secrets.token_hex(24)
        self._inside = {one: held for one, held in self._inside.items() if held[1] > now}
        self._inside[token] = (user, now + SESSION)
        return _cookie_of(token, SESSION)


@dataclass(frozen=True)
class Reviewers:
    """Who decides on a diagnosis under review.

    Attributes:
        users: who has keys; without any, a decision is signed with the name that it is given under.
        names: users who decide, each on what another user asked; empty: every user on their own.
    """

    users: Users = field(default_factory=Users)
    names: frozenset[str] = frozenset()

    @classmethod
    def from_settings(cls, settings: Settings, users: Users) -> Self:
        """Read the reviewers from the settings.

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
        """Refuse a user's decision on the owner's conversation.

        Raises:
            ReviewRefused: somebody else must decide.
        """
        if not self.names and user != owner:
            raise ReviewRefused("this conversation belongs to another user, who decides on it")
        if self.names and user not in self.names:
            raise ReviewRefused("you are not a reviewer; a user in GSCO_REVIEWERS decides on this diagnosis")
        if self.names and user == owner:
            raise ReviewRefused("this is your own conversation; another reviewer must decide on it")

    def signature(self, user: str, given: str) -> str:
        """The reviewer's name as it goes on record, from the user and the name in the request or form.

        Raises:
            ReviewRefused: a name is given that is not the user's.
        """
        given = given.strip()
        if not self.users:
            return given
        if given and given != user:
            raise ReviewRefused(
                f"the decision is signed with the user of the API key, {user}; leave the name out"
            )
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


def check_reachable(host: str, users: Users, option: str = "--host") -> None:
    """Refuse to serve other machines without keys; ``option`` sets the host.

    Raises:
        ConfigurationError: the host can be reached from elsewhere, and no key is set.
    """
    if not users and not is_loopback(host):
        raise ConfigurationError(
            f"{host} can be reached from other machines: set GSCO_API_KEYS=NAME:KEY[,NAME:KEY…], or "
            f"serve this machine only with {option} 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether a host, as it stands in an address, is this machine only."""
    name = host.strip("[]").lower()
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_origin(scope: Scope) -> None:
    """Refuse a request that another web page sent, with ``RequestRefused``."""
    if is_foreign(scope):
        text = "this request comes from another web page; a reverse proxy must pass the Host header on"
        raise RequestRefused(403, text, "origin_not_allowed")


def is_foreign(scope: Scope) -> bool:
    """Whether a browser says that another page made this request; one at another port counts as another.

    Programs that are no browsers send neither ``Origin`` nor ``Sec-Fetch-Site`` and are never foreign.
    Following a link to the page is allowed.
    """
    if origin := header(scope, b"origin"):
        # A page cannot set X-Forwarded-Host for another origin: this header is a reverse proxy's.
        hosts = f"{header(scope, b'host')},{header(scope, b'x-forwarded-host')}".lower().split(",")
        return urlsplit(origin).netloc.lower() not in {host.strip() for host in hosts} - {""}
    if header(scope, b"sec-fetch-site") not in ("cross-site", "same-site"):
        return False
    return scope["method"] != "GET" or header(scope, b"sec-fetch-mode") != "navigate"


def _check_host(scope: Scope) -> None:
    """Without keys, refuse a ``Host`` other than this machine: a web page made its own name point here."""
    name, _, port = (host := header(scope, b"host")).rpartition(":")
    if not is_loopback(name if port.isdigit() else host):
        text = "without GSCO_API_KEYS only this machine is served, as localhost or 127.0.0.1"
        raise RequestRefused(403, text, "host_not_allowed")


def _cookie(scope: Scope) -> str:
    try:
        found = SimpleCookie(header(scope, b"cookie")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _cookie_of(token: str, seconds: int) -> str:
    return f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
