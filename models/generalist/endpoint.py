"""LangChain's client of an OpenAI-compatible server, with images by id and tools at every level."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import TYPE_CHECKING, Any, TypeVar

import openai
from cachetools import LRUCache, cached
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_openai import ChatOpenAI
from pydantic import Field, SecretStr

from ...errors import CallUnreadable, GeneralistError, ImageError
from .deadline import keep_deadline, keep_deadline_async
from .discovery import Level
from .faults import broken_off, place
from .messages import check_length, neutralise, parts
from .parameters import RequestParameters, afollow, follow
from .tool_calling import form_of, in_words, read_call
from .tool_calls import specifications

if TYPE_CHECKING:
    from ...images import ImageStore

T = TypeVar("T")

HELD_TO = "held_to_tools"
"""Keyword under which bound tools travel to the request where the server does not take them itself."""
_LONGEST_SIDE = 2048


class EncodedImages:
    """Stored images as base64: PNG, at most 2048 pixels a side, the latest kept.

    Several questions about an image at once wait for one of them to encode it.
    """

    def __init__(self, images: ImageStore) -> None:
        self._images = images
        self.of = cached(LRUCache[tuple[str], str](maxsize=64), condition=Condition())(self._encode)

    def _encode(self, id: str) -> str:
        image = self._images.get(id)
        if max(image.size) > _LONGEST_SIDE:
            image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        return base64.b64encode(buffer.getvalue()).decode("ascii")

    def resolved(self, message: BaseMessage) -> BaseMessage:
        """The message with image ids replaced by the images and control tokens in its text broken up.

        Raises:
            GeneralistError: an image stands outside a user message, or is not available.
        """
        images, text = parts(message)
        if not images:
            return message.model_copy(update={"content": neutralise(text)})
        try:
            blocks = [{"type": "image", "base64": self.of(id), "mime_type": "image/png"} for id in images]
        except ImageError as error:
            raise GeneralistError(f"an image of the question is not available: {error}") from error
        return message.model_copy(update={"content": [*blocks, {"type": "text", "text": neutralise(text)}]})


@dataclass(frozen=True)
class Calling:
    """How tools reach the model."""

    level: Level
    vllm: bool


@dataclass(frozen=True)
class HeldTools:
    """Tools that an answer is held to by its form."""

    tools: tuple[dict[str, Any], ...]
    choice: str
    vllm: bool

    def request(self) -> dict[str, object]:
        """What the request needs beside the messages."""
        form = form_of(self.tools, self.choice)
        if self.vllm:
            return {"extra_body": {"structured_outputs": {"json": form, "disable_any_whitespace": True}}}
        named = {"name": "call", "schema": form, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": named}}


class EndpointChat(ChatOpenAI):
    """``ChatOpenAI`` that takes image ids, and tools whether or not the server does.

    The pixels stand in the request only. ``bind_tools`` uses the server's own tool calling where there is
    one, else it holds the answer to the form of a call (see ``calling``).
    """

    encoded: EncodedImages = Field(exclude=True, repr=False)
    stop_ids: tuple[int, ...] = ()
    """Ids that end an answer, for checkpoints that do not say so."""
    calling: Callable[[], Calling] = Field(exclude=True, repr=False)
    """Function that finds out how tools reach the model; called when the first tools are bound."""

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools at the level that the server has.

        Raises:
            GeneralistError: it has none, or cannot be reached.
        """
        calling = self.calling()
        if calling.level == "native":
            return super().bind_tools(tools, **kwargs)
        if calling.level == "none":
            raise GeneralistError(
                f"{self.model_name} may not call tools; the fixed diagnosis needs none, and"
                " GSCO_TOOL_CALLS=constrained holds any model to their form where the server can"
            )
        choice = _choice(kwargs.pop("tool_choice", None))
        kept = {name: value for name, value in kwargs.items() if name not in _ONLY_NATIVE}
        return self.bind(**{HELD_TO: HeldTools(tuple(specifications(tools)), choice, calling.vllm)}, **kept)

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, object]:
        messages = self._convert_input(input_).to_messages()
        check_length(messages)
        held: HeldTools | None = kwargs.pop(HELD_TO, None)
        if held:
            messages = in_words(messages, held.tools)
            kwargs |= held.request()
        if self.stop_ids:
            kwargs["extra_body"] = {"stop_token_ids": list(self.stop_ids), **(kwargs.get("extra_body") or {})}
        return super()._get_request_payload([self.encoded.resolved(m) for m in messages], stop=stop, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with _whole_calls(HELD_TO in kwargs):
            result = super()._generate(messages, stop, run_manager, **kwargs)
        return _read(result) if HELD_TO in kwargs else result

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with _whole_calls(HELD_TO in kwargs):
            result = await super()._agenerate(messages, stop, run_manager, **kwargs)
        return _read(result) if HELD_TO in kwargs else result

    def _stream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        if HELD_TO in kwargs:  # a call is of use only as a whole
            yield whole_chunk(self._generate(messages, **_without_usage(kwargs)))
            return
        ended = False
        for chunk in super()._stream(messages, *args, **kwargs):
            ended = ended or _ends(chunk)
            yield chunk
        self._check(ended)

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        if HELD_TO in kwargs:
            yield whole_chunk(await self._agenerate(messages, **_without_usage(kwargs)))
            return
        ended = False
        async for chunk in super()._astream(messages, *args, **kwargs):
            ended = ended or _ends(chunk)
            yield chunk
        self._check(ended)

    def _check(self, ended: bool) -> None:
        """Half an answer must not pass for a whole one: a closed connection may be all that tells."""
        if not ended:
            raise GeneralistError(broken_off(place(self.openai_api_base or "")))


def connect(
    base_url: str,
    model: str,
    api_key: SecretStr,
    images: EncodedImages,
    *,
    timeout: float,
    deadline: float,
    retries: int,
    stop_ids: tuple[int, ...] = (),
    calling: Callable[[], Calling],
    parameters: RequestParameters,
    own_connections: bool = False,
    keep_alive: bool = True,
) -> EndpointChat:
    """A client for one model of a server. Nothing is sent yet.

    Args:
        base_url: of the server.
        model: name at the server.
        api_key: sent as bearer token.
        images: where image ids are looked up.
        timeout: seconds that the server may be silent.
        deadline: seconds for an answer, retries included.
        retries: of a request that failed in passing.
        stop_ids: sent along, for checkpoints that lack them.
        calling: finds out how tools reach the model.
        parameters: what the server takes, learnt from its refusals.
        own_connections: keep asynchronous connections of its own, for use on one event loop only; LangChain
            otherwise shares them between all clients of one address.
        keep_alive: of those: whether they wait for further requests. Without, any event loop may use them,
            and nobody has to close them.
    """
    own: dict[str, Any] = {}
    if own_connections:
        limits = openai.DEFAULT_CONNECTION_LIMITS
        if not keep_alive:
            limits = type(limits)(max_connections=limits.max_connections, max_keepalive_connections=0)
        own["http_async_client"] = openai.DefaultAsyncHttpxClient(limits=limits)
    chat = EndpointChat(
        base_url=base_url,
        model=model,
        # Never empty: the client would look for another key in the environment and send that one.
        api_key=api_key if api_key.get_secret_value() else SecretStr("none"),
        temperature=0,
        timeout=timeout,
        max_retries=retries,
        use_responses_api=False,
        encoded=images,
        stop_ids=stop_ids,
        calling=calling,
        **own,
    )
    keep_deadline(chat.root_client, deadline, place(base_url))
    keep_deadline_async(chat.root_async_client, deadline, place(base_url))
    follow(chat.root_client, parameters)
    afollow(chat.root_async_client, parameters)
    return chat


_ONLY_NATIVE = ("strict", "parallel_tool_calls", "response_format")


def _choice(given: object) -> str:
    """``tool_choice`` in any of LangChain's spellings: auto, any, or a tool's name."""
    if isinstance(given, dict):
        return str(given.get("function", given).get("name", "any"))
    if given in (None, False, "auto"):
        return "auto"
    return "any" if given in (True, "any", "required") else str(given)


@contextmanager
def _whole_calls(held: bool) -> Generator[None]:
    """The client refuses an answer in a form that was cut off, before it can be read here."""
    try:
        yield
    except openai.LengthFinishReasonError:
        if not held:
            raise
        raise CallUnreadable(
            "the generalist's tool call was cut off; let it answer with more tokens, or set GSCO_TOOL_CALLS"
            " to none"
        ) from None


def _read(result: ChatResult) -> ChatResult:
    read = [
        ChatGeneration(
            message=_like(generation.message, read_call(generation.message.text)),
            generation_info=generation.generation_info,
        )
        for generation in result.generations
    ]
    return ChatResult(generations=read, llm_output=result.llm_output)


def _like(raw: BaseMessage, read: AIMessage) -> AIMessage:
    """The answer as read, with what is known about it."""
    kept = {"id": raw.id, "response_metadata": raw.response_metadata}
    return read.model_copy(update={**kept, "usage_metadata": getattr(raw, "usage_metadata", None)})


def whole_chunk(result: ChatResult) -> ChatGenerationChunk:
    """An answer that came at once, as the only piece of a stream."""
    message = result.generations[0].message
    return ChatGenerationChunk(message=AIMessageChunk(**message.model_dump(exclude={"type"})))


def _ends(chunk: ChatGenerationChunk) -> bool:
    return bool((chunk.generation_info or {}).get("finish_reason"))


def _without_usage(kwargs: Mapping[str, T]) -> dict[str, T]:
    return {name: value for name, value in kwargs.items() if name not in ("stream_usage", "run_manager")}
