"""The words and images of one message, in any of the forms in which clients send them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .errors import ApiError

if TYPE_CHECKING:
    from .schema import Message, Part

_TEXT = frozenset({"text", "input_text", "output_text"})
_IMAGE = frozenset({"image_url", "input_image", "image", "file", "input_file"})
_SILENT = frozenset({"refusal", "reasoning", "thinking"})
"""Parts of an answer that are no words of it."""
_ATTACHED = re.compile(r"\s*<attached_files>.*?</attached_files>\s*", re.DOTALL)
"""Open WebUI's list of the files that it sends along; the images themselves are parts of their own."""


def text_of(message: Message) -> str:
    """Return the words of a message; its parts are separated by an empty line."""
    if not isinstance(message.content, list):
        return message.content or ""
    texts = (part if isinstance(part, str) else part.text for part in message.content if _is_text(part))
    return "\n\n".join(filter(None, (_ATTACHED.sub("", text) for text in texts if text)))


def images_of(message: Message, place: int) -> Iterator[tuple[str, str]]:
    """Yield the address of each image of a message, with the name of its field.

    Raises:
        Problem: a part that should hold an image holds none.
    """
    for number, part in enumerate(message.content if isinstance(message.content, list) else ()):
        if isinstance(part, str) or part.type not in _IMAGE:
            continue
        param = f"messages.{place}.content.{number}"
        address = _address(part)
        if address is None:
            raise ApiError(
                400,
                f"the {part.type} part holds no image; send it as "
                '{"type": "image_url", "image_url": {"url": "data:image/png;base64,…"}}',
                "image_missing",
                param,
            )
        yield address, param


def other_parts(message: Message) -> list[str]:
    """Return the types of the parts that are neither words nor images, each once."""
    parts = message.content if isinstance(message.content, list) else ()
    types = (part.type for part in parts if not isinstance(part, str))
    return list(dict.fromkeys(kind[:40] for kind in types if kind not in _TEXT | _IMAGE | _SILENT))


def _is_text(part: Part | str) -> bool:
    return isinstance(part, str) or part.type in _TEXT


def _address(part: Part) -> str | None:
    if part.image_url is not None:
        return part.image_url if isinstance(part.image_url, str) else part.image_url.url
    if part.source is not None:
        return part.source.data and f"data:;base64,{part.source.data}"
    return part.file_data or (part.file.file_data if part.file else None)
