"""How long a text may be, in characters, whichever face it comes through.

It is checked before anything looks into the text: a tokenizer takes minutes and gigabytes for 30 MB.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import TextTooLong


@dataclass(frozen=True)
class TextLimits:
    """Characters of one message, and of all that one request brings: its past, question and context."""

    message: int = 50_000
    request: int = 200_000

    def check(self, texts: Iterable[str | None]) -> None:
        """Refuse texts that are too long, alone or together.

        Raises:
            TextTooLong: the message quotes nothing.

        Example:
            >>> TextLimits(message=10).check(["short", None])
        """
        total = 0
        for text in texts:
            length = len(text or "")
            total += length
            if length > self.message:
                raise TextTooLong(
                    f"a text has {length} characters, the limit is {self.message}"
                    " (GSCO_MAX_MESSAGE_CHARACTERS); shorten it"
                )
        if total > self.request:
            raise TextTooLong(
                f"the texts of this request have {total} characters in total, the limit is {self.request}"
                " (GSCO_MAX_REQUEST_CHARACTERS); send fewer or shorter messages"
            )


DEFAULT_TEXT_LIMITS = TextLimits()
