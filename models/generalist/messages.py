"""LangChain messages as the generalists use them: plain text, image references, no control tokens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ...errors import GeneralistError, PromptTooLong

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

MOST_CHARACTERS = 400_000
"""Of all texts of a prompt. That many are tokenised within a second; 30 million took five minutes."""

_ANGLED = re.compile(r"[<＜]([/|｜]?[^<>＜＞\n]{0,63}?[|｜/]?)[>＞]")
_INVISIBLE = ("Cc", "Cf", "Cs", "Co")
_TAG = re.compile(r"[/|｜!]?[A-Za-z_]")
_BRACKETED = re.compile(r"\[(/?(?:INST|SYS|IMG|IMG_END|IMG_BREAK|[A-Z]+_TOOLS|TOOL_[A-Z]+))\]", re.I)


def neutralise(text: str) -> str:
    """Make text harmless to any chat template: nothing in it can be read as a control token.

    ``<|im_end|>``, ``<img>``, ``</s>``, ``<IMG_CONTEXT>``, ``[INST]`` and everything of their shape
    keep their letters but get other brackets (``‹|im_end|›``). Comparisons such as ``< 5 mm`` stay.
    Invisible and control characters go, since some tokenizers drop them before they look for tokens.
    """
    if text.isascii() and "<" not in text and "[" not in text and text.isprintable():
        return text
    visible = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in _INVISIBLE)
    angled = _ANGLED.sub(lambda found: f"‹{found[1]}›" if _TAG.match(found[1]) else found[0], visible)
    return _BRACKETED.sub(r"(\1)", angled)


def neutralise_tokens(text: str, tokens: Iterable[str]) -> str:
    """Break up the given control tokens wherever ``text`` holds them.

    Args:
        text: anything that goes into a prompt.
        tokens: the control tokens of one tokenizer.
    """
    for token in tokens:
        if token in text:
            text = text.replace(token, f"‹{token.strip('<>[]')}›")
    return text


def quote(text: str, limit: int | None = None) -> str:
    """One line in double quotes, for text that is data; longer than ``limit`` characters is cut at a word."""
    line = " ".join(neutralise(text).replace('"', "'").split())
    if limit is not None and len(line) > limit:
        line = line[:limit].rsplit(" ", 1)[0] + " …"
    return f'"{line}"'


def message(role: str, text: str, images: Sequence[str] = ()) -> BaseMessage:
    """A LangChain message; images come before the text, as ids that the generalist resolves.

    Args:
        role: ``system``, ``human`` or ``ai``.
        text: the text.
        images: ``ImageRef.id`` of each image.
    """
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

    kind = {"system": SystemMessage, "human": HumanMessage, "ai": AIMessage}[role]
    if not images:
        return kind(content=text)
    return kind(
        content=[*({"type": "image", "file_id": id} for id in images), {"type": "text", "text": text}]
    )


def parts(message: BaseMessage) -> tuple[tuple[str, ...], str]:
    """Image ids and text of one message.

    Raises:
        GeneralistError: the message holds something other than text and image ids, or an image stands
            in a message that is not the user's.
    """
    if isinstance(message.content, str):
        return (), message.content
    images: list[str] = []
    texts: list[str] = []
    for block in message.content:
        if isinstance(block, str):
            texts.append(block)
        elif block.get("type") == "text":
            texts.append(str(block["text"]))
        elif block.get("type") == "image" and block.get("file_id"):
            images.append(str(block["file_id"]))
        elif block.get("type") not in ("reasoning", "tool_call"):
            raise GeneralistError(
                f"a message holds a block of type {block.get('type')!r}; use text, or "
                '{"type": "image", "file_id": ImageRef.id} for an image from the image store'
            )
    if images and message.type != "human":
        raise GeneralistError(f"a {message.type} message contains an image; put it into a human message")
    return tuple(images), "".join(texts)


def check_length(messages: Iterable[BaseMessage]) -> None:
    """Refuse a prompt that is far too long, before it is tokenised.

    Raises:
        PromptTooLong: its texts have more than ``MOST_CHARACTERS`` together.
    """
    characters = sum(len(parts(message)[1]) for message in messages)
    if characters > MOST_CHARACTERS:
        raise PromptTooLong(
            f"the prompt has {characters} characters, the limit is {MOST_CHARACTERS}; begin a new"
            " conversation, or give fewer similar cases or less context"
        )


def without_system(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The same messages for a model that takes no system message: its text opens the first question."""
    rules = "\n\n".join(parts(one)[1] for one in messages if one.type == "system")
    rest = [one for one in messages if one.type != "system"]
    first = next((place for place, one in enumerate(rest) if one.type == "human"), None)
    if not rules:
        return rest
    if first is None:
        return [message("human", rules), *rest]
    images, text = parts(rest[first])
    rest[first] = message("human", f"{rules}\n\n{text}", images)
    return rest


def image_ids(messages: Iterable[BaseMessage]) -> tuple[str, ...]:
    """Ids of all images in the messages, in order."""
    return tuple(id for message in messages for id in parts(message)[0])
