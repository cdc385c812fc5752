"""From the messages that a client resends to a turn of a consultation.

OpenAI's protocol keeps nothing: a client sends the whole conversation each time. So by default it becomes
a new consultation that begins with what was said, and is forgotten after the answer. With the name of a
thread (``X-GSCo-Thread``, ``metadata.thread`` or ``gsco.thread``) it is kept; then only what follows the
last answer is taken, since the thread knows the rest, its evidence too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ...errors import ImageError
from .client_tasks import CLIENT_TASKS
from .content import images_of, other_parts, text_of
from .data_uri import image_bytes
from .diagnosis_request import IMAGES
from .errors import ApiError, invalid
from .markdown import without_footer
from .schema import MODEL_WITH_TOOLS, MODELS, ChatRequest, Message, Options

if TYPE_CHECKING:
    from ...case import ImageRef
    from ...images import ImageStore


EARLIER_IMAGES = 32
"""Of the earlier messages that a client sends again, so many images are read, the latest ones."""


@dataclass(frozen=True)
class PastMessage:
    """A message that was answered before, or an answer."""

    role: str
    """``user`` or ``assistant``."""
    text: str
    images: tuple[ImageRef, ...] = ()


@dataclass(frozen=True)
class ParsedConversation:
    """What a client sent, apart: what was said before, and what is said now."""

    earlier: tuple[PastMessage, ...]
    text: str
    images: tuple[ImageRef, ...]
    instructions: str | None
    """The client's system messages. They reach tasks that answer questions, and never a closed diagnosis."""
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Messages and parts that had no effect, with the reason."""


async def parse_conversation(request: ChatRequest, store: ImageStore) -> ParsedConversation:
    """Read the conversation and put its images into the store.

    An image of an earlier message that cannot be used is ignored: it was refused when it was sent, and would
    block the conversation for good.

    Raises:
        Problem: there is nothing to answer, or an image of the last message is no data URI.
        ImageError: an image of the last message cannot be used.
    """
    spoken = [(place, one) for place, one in enumerate(request.messages) if one.role in ("user", "assistant")]
    answered = max((n for n, (_, one) in enumerate(spoken) if one.role == "assistant"), default=-1) + 1
    if answered == len(spoken):
        raise ApiError(
            400,
            "the last message must come from the user: there is nothing to answer",
            "no_question",
            "messages",
        )
    ignored = _ignored_messages(request.messages)
    earlier = []
    read = 0
    for place, one in reversed(spoken[:answered]):
        images: tuple[ImageRef, ...] = ()
        if read < EARLIER_IMAGES:
            images = await _images(one, place, store, ignored, strict=False)
            read += len(images)
        elif list(images_of(one, place)):
            ignored[f"messages.{place}"] = f"only the last {EARLIER_IMAGES} images are looked at again"
        text = without_footer(text_of(one)) if one.role == "assistant" else text_of(one)
        if text or images:
            earlier.insert(0, PastMessage(one.role, text, images))
    texts: list[str] = []
    shown: list[ImageRef] = []
    for number, (place, one) in enumerate(spoken[answered:], answered + 1):
        shown += await _images(one, place, store, ignored, strict=number == len(spoken))
        texts.append(text_of(one))
    words = "\n\n".join(filter(None, texts))
    if not words and not shown:
        raise ApiError(
            400, "the last message is empty: ask something or send an image", "no_question", "messages"
        )
    system = [text_of(one) for one in request.messages if one.role in ("system", "developer")]
    instructions = "\n\n".join(filter(None, system)) or None
    return ParsedConversation(tuple(earlier), words, tuple(shown), instructions, ignored)


def options_of(request: ChatRequest, thread: str | None) -> Options:
    """Gather gsco's options from the request's own field, its metadata and the header.

    Raises:
        Problem: one of them is wrong, or the model is not known.
    """
    name = model_name(request.model)
    if name is None:
        raise ApiError(
            404, f"the model is unknown; available: {', '.join(MODELS)}", "model_not_found", "model"
        )
    named = {
        key: value
        for key, value in (request.metadata or {}).items()
        if key in Options.model_fields and isinstance(value, str) and value not in CLIENT_TASKS
    }
    own = request.gsco.model_dump(exclude_none=True) if request.gsco else {}
    try:
        options = Options.model_validate({"thread": thread, **named, **own})
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_input=False)) from None
    if options.tools is None:
        shown = "shown" if name == MODEL_WITH_TOOLS else "hidden"
        options = options.model_copy(update={"tools": shown})
    return options


def model_name(given: str) -> str | None:
    """Return the model that a client means: some put ``openai/`` before its name, or ``:latest`` after it."""
    name = given.removeprefix("openai/").removesuffix(":latest")
    return name if name in MODELS else None


def ignored_fields(request: ChatRequest) -> dict[str, str]:
    """Return the fields of a request that have no effect, each with the reason.

    Raises:
        Problem: the client's tools must be called, or several answers given, which cannot be ignored.
    """
    if request.n not in (None, 1):
        raise ApiError(
            400, "this server gives one answer at a time: leave out n, or send 1", "n_refused", "n"
        )
    choice = request.tool_choice
    if choice is not None and choice not in ("auto", "none"):
        raise ApiError(
            400,
            "the agent calls its own tools and cannot be made to call the client's; for an answer in "
            "JSON use response_format",
            "tool_choice_refused",
            "tool_choice",
        )
    ignored: dict[str, str] = {}
    if request.tools:
        ignored["tools"] = "the agent calls its own tools"
    for name, value in (request.model_extra or {}).items():
        if value not in (None, False, [], {}):
            ignored[name[:100]] = _REASONS.get(name, "it has no effect on this server")
    return ignored


_UNCUT = "an answer is never cut: its decision would be lost"
_FIXED = "the agent's answers do not depend on it"
_REASONS: Mapping[str, str] = {
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "stop"), _UNCUT),
    **dict.fromkeys(("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty"), _FIXED),
    "functions": "the agent calls its own tools",
    "logprobs": "probabilities of the options are in gsco.diagnosis",
    "top_logprobs": "probabilities of the options are in gsco.diagnosis",
    "user": "the API key names the user",
}


def _ignored_messages(messages: list[Message]) -> dict[str, str]:
    ignored: dict[str, str] = {}
    for place, one in enumerate(messages):
        if one.role in ("tool", "function"):
            ignored[f"messages.{place}"] = "the results of a client's own tools are not read"
        elif kinds := other_parts(one):
            ignored[f"messages.{place}"] = f"parts of type {', '.join(kinds)} are not read"
    return ignored


async def _images(
    one: Message, place: int, store: ImageStore, ignored: dict[str, str], *, strict: bool
) -> tuple[ImageRef, ...]:
    try:
        sources = list(images_of(one, place))
        if sources and one.role == "assistant":
            ignored[f"messages.{place}"] = "images in an answer are not read"
            return ()
        if len(sources) > IMAGES:
            raise ApiError(
                400,
                f"a message may have at most {IMAGES} images, this one has {len(sources)}",
                "too_many_images",
                "messages",
            )
        return tuple(
            [await asyncio.to_thread(store.put, image_bytes(address, param)) for address, param in sources]
        )
    except (ApiError, ImageError) as problem:
        if strict:
            raise
        ignored[f"messages.{place}"] = f"its images were not read: {problem}"
        return ()
