"""Numbers, lists and quotations as they read in a sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...models.generalist.messages import neutralise

LONGEST_QUOTE = 600


def percent(share: float) -> str:
    """A probability as a whole percentage; near the ends it does not claim certainty."""
    if share >= 0.995:
        return "over 99%"
    if share < 0.005:
        return "under 1%"
    return f"{share:.0%}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def plain(text: str, limit: int = LONGEST_QUOTE) -> str:
    """Text of others as one line without control tokens or Markdown's marks, cut at a word."""
    line = " ".join(_EMPHASIS.sub("", neutralise(text).translate(_MARKS)).split())
    return line if len(line) <= limit else line[:limit].rsplit(" ", 1)[0] + " …"


def named(labels: Sequence[str]) -> str:
    """Labels in a sentence."""
    return listed([plain(label) for label in labels]) or "none of the options"


def sentence(text: str) -> str:
    """A text with a capital at its beginning and a full stop at its end."""
    text = text.strip()
    whole = text if text.endswith((".", "!", "?", "…")) else f"{text}."
    return whole[:1].upper() + whole[1:]


_MARKS = str.maketrans({"*": "", "`": "'", "#": "", "|": "/", "<": "‹", ">": "›"})
_EMPHASIS = re.compile(r"(?<!\w)_+|_+(?!\w)")
