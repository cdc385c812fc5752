"""From the messages that a client resends to a turn of a consultation.

OpenAI's protocol keeps nothing: a client sends the whole conversation each time. So by default it becomes
a new consultation that begins with what was said, and is forgotten after the answer. With the name of a
thread (``X-GSCo-Thread``, ``metadata.thread`` or ``gsco.thread``) it is kept; then only what follows the
last answer is taken, since the thread knows the rest, its evidence too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ...models.generalist.messages import message
from ..desk import Earlier
from .data_uri import image_bytes
from .problems import Problem, invalid
from .schema import MODEL_WITH_TOOLS, MODELS, ChatRequest, Message, Options
from .wording import bare

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from ...case import ImageRef
    from ...images import ImageStore


@dataclass(frozen=True)
class Told:
    """What a client sent, apart: what was said before, and what is said now."""

    earlier: Earlier
    text: str
    images: tuple[ImageRef, ...]
    context: str | None
    """The system messages of the client's. They are data to the agent, which has its own instructions."""


async def told_by(request: ChatRequest, store: ImageStore) -> Told:
    """Read the conversation and put its images into the store.

    Raises:
        Problem: there is nothing to answer, or an image is no data URI.
        ImageError: an image cannot be used.
    """
    spoken = [(place, one) for place, one in enumerate(request.messages) if one.role in ("user", "assistant")]
    last = max((n for n, (_, one) in enumerate(spoken) if one.role == "assistant"), default=-1) + 1
    if last == len(spoken):
        raise Problem(
            400, "the last message must be the user's: there is nothing to answer", "no_question", "messages"
        )
    before: list[BaseMessage] = []
    known: list[ImageRef] = []
    for place, one in spoken[:last]:
        text, images = await _content(one, place, store)
        known += images
        text = bare(text) if one.role == "assistant" else text
        if text or images:
            role = "human" if one.role == "user" else "ai"
            before.append(message(role, text, [ref.id for ref in images] if role == "human" else ()))
    texts, shown = [], []
    for place, one in spoken[last:]:
        text, images = await _content(one, place, store)
        texts.append(text)
        shown += images
    words = "\n\n".join(filter(None, texts))
    if not words and not shown:
        raise Problem(
            400, "the last message is empty: ask something or send an image", "no_question", "messages"
        )
    system = [_text(one) for one in request.messages if one.role in ("system", "developer")]
    context = "\n\n".join(filter(None, system)) or None
    return Told(Earlier(tuple(before), tuple(known)), words, tuple(shown), context)


def options_of(request: ChatRequest, thread: str | None) -> Options:
    """Gather gsco's options from the request's own field, its metadata and the header.

    Raises:
        Problem: one of them is wrong, or the model is not known.
    """
    if request.model not in MODELS:
        raise Problem(
            404, f"the model is not known; there are: {', '.join(MODELS)}", "model_not_found", "model"
        )
    named = {name: value for name, value in (request.metadata or {}).items() if name in Options.model_fields}
    own = request.gsco.model_dump(exclude_none=True) if request.gsco else {}
    try:
        options = Options.model_validate({"thread": thread, **named, **own})
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False, include_input=False)) from None
    if options.tools is None:
        shown = "shown" if request.model == MODEL_WITH_TOOLS else "hidden"
        options = options.model_copy(update={"tools": shown})
    return options


async def _content(one: Message, place: int, store: ImageStore) -> tuple[str, list[ImageRef]]:
    images = []
    for number, part in enumerate(one.content if isinstance(one.content, list) else ()):
        if part.type != "image_url":
            continue
        param = f"messages.{place}.content.{number}.image_url"
        if one.role == "assistant":
            raise Problem(400, "an answer holds no images; leave them out", "image_misplaced", param)
        images.append(await asyncio.to_thread(store.put, image_bytes(part.image_url.url, param)))
    return _text(one), images


def _text(one: Message) -> str:
    if isinstance(one.content, list):
        texts: Sequence[str] = [part.text for part in one.content if part.type == "text"]
        return "\n\n".join(texts)
    return one.content or ""
