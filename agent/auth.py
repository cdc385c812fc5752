"""Who may ask: API keys, each of which stands for a user whose conversations nobody else sees."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from typing import Self

from ..errors import ConfigurationError, ThreadError
from .conversation_store import LOCAL, key_of

SHORTEST = 16
"""A key has at least so many characters: nobody can guess it."""
_MAKE_ONE = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


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
                    f"GSCO_API_KEYS: the key of {name} is shorter than {SHORTEST}; {_MAKE_ONE}"
                )
            if _digest(key) in digests:
                raise ConfigurationError(f"GSCO_API_KEYS: {name} has another user's key; {_MAKE_ONE}")
            digests[_digest(key)] = name
        return cls(tuple(digests.items()))

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


def check_reachable(host: str, users: Users, option: str = "--host") -> None:
    """Refuse to serve other machines without keys.

    Args:
        host: the address that is listened at.
        users: who may ask.
        option: sets the host, for the advice.

    Raises:
        ConfigurationError: the address can be reached from elsewhere, and no key is set.
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


def names_this_machine(header: str) -> bool:
    """Whether a request's ``Host`` is this machine only; else a web page made its own name point here."""
    name, _, port = header.rpartition(":")
    return is_loopback(name if port.isdigit() else header)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
