"""The vectors of one encoder, as Weaviate knows them."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

FLAG = "has_"
"""Properties that say which cases have an encoder's vector begin so."""


class Space(NamedTuple):
    """The vectors of one encoder.

    An encoder's name may be any text and a named vector's may not, so its names in Weaviate are made of a
    key, and the key of both name and width: a name with another width is another space.
    """

    encoder: str
    width: int

    @property
    def key(self) -> str:
        """What its names in Weaviate end with."""
        return hashlib.sha256(f"{self.width}/{self.encoder}".encode()).hexdigest()[:16]

    @property
    def vector(self) -> str:
        """The named vector."""
        return f"v_{self.key}"

    @property
    def flag(self) -> str:
        """The property that says which cases have it."""
        return f"{FLAG}{self.key}"
