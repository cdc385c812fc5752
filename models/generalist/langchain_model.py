"""Any LangChain chat model that takes images, as the generalist."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding
from pydantic import ConfigDict, Field

from ...case import Answer
from ...errors import AnswerUnparsed, ConfigurationError, GeneralistError
from .discovery import Level
from .endpoint import EncodedImages, whole_chunk
from .option_choice import without_thoughts
from .options import answer_from_text
from .protocol import Choice

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from ...images import ImageStore

_AT_ONCE = 16
"""Requests in flight."""


class ImageChatModel(BaseChatModel):
    """A chat model that reads images by their ids: they are put into the request in base64.

    Callbacks, tags and metadata are those of the model underneath.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: BaseChatModel
    encoded: EncodedImages
    given: Mapping[str, Any] = Field(default_factory=dict)
    """Parameters that were bound to the model."""

    @property
    def _llm_type(self) -> str:
        return self.model._llm_type

    @property
    def _identifying_params(self) -> Mapping[str, object]:
        return self.model._identifying_params

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """Bind tools in the form that the model underneath takes."""
        bound = self.model.bind_tools(tools, **kwargs)
        if not isinstance(bound, RunnableBinding):
            raise GeneralistError("tools cannot be bound to this chat model; set GSCO_TOOL_CALLS=none")
        return self.bind(**bound.kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self.model._generate(self._with_images(messages), stop, run_manager, **self._fitting(kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        shown = self._with_images(messages)
        return await self.model._agenerate(shown, stop, run_manager, **self._fitting(kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        shown, fitting = self._with_images(messages), self._fitting(kwargs)
        if type(self.model)._stream is not BaseChatModel._stream:
            yield from self.model._stream(shown, stop, run_manager, **fitting)
        else:
            yield whole_chunk(self.model._generate(shown, stop, run_manager, **fitting))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        shown, fitting, kind = self._with_images(messages), self._fitting(kwargs), type(self.model)
        if kind._astream is not BaseChatModel._astream or kind._stream is not BaseChatModel._stream:
            async for chunk in self.model._astream(shown, stop, run_manager, **fitting):
                yield chunk
        else:
            yield whole_chunk(await self.model._agenerate(shown, stop, run_manager, **fitting))

    def _with_images(self, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        # What other models said before goes back to them as it came: its blocks may be their own.
        return [self.encoded.resolved(one) if one.type == "human" else one for one in messages]

    def _fitting(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a call; a limit on tokens goes only to a model that has one of that name."""
        known = "max_tokens" in type(self.model).model_fields
        return {**self.given, **{k: value for k, value in kwargs.items() if known or k != "max_tokens"}}


class LangChainGeneralist:
    """Implements ``Generalist`` and ``AsyncGeneralist`` over a chat model of the caller's.

    Closed questions are answered in words that are matched to an option, without probabilities.

    Args:
        model: takes images as LangChain's standard blocks; it may have been bound to parameters
            (``bind``) or to callbacks and tags (``with_config``).
        images: where image ids are looked up.

    Raises:
        ConfigurationError: it is no chat model.

    Example:
        ``GSCo.from_settings(generalist=ChatAnthropic(model="…", callbacks=[tracer], tags=["ward 3"]))``
    """

    def __init__(self, model: Runnable[Any, Any], images: ImageStore) -> None:
        plain, given, config = _unbound(model)
        self._chat = ImageChatModel(
            model=plain,
            encoded=EncodedImages(images),
            given=given,
            callbacks=config.get("callbacks") or plain.callbacks,
            tags=[*(plain.tags or ()), *config.get("tags", ())],
            metadata={**(plain.metadata or {}), **config.get("metadata", {})},
        )
        named = getattr(plain, "model_name", None) or getattr(plain, "model", None)
        self.name = str(named or type(plain).__name__)
        self.version = type(plain).__name__
        self.batch_size = _AT_ONCE

    @property
    def tool_level(self) -> Level:
        """Native where the model binds tools, else none."""
        binds = type(self._chat.model).bind_tools is not BaseChatModel.bind_tools
        return "native" if binds else "none"

    def choose(self, requests: Sequence[Choice]) -> list[Answer | GeneralistError]:
        """Answer closed questions; see ``Generalist.choose``."""
        texts = self.generate([request.messages for request in requests])
        return [_answer(text, request) for text, request in zip(texts, requests, strict=True)]

    async def achoose(self, request: Choice) -> Answer:
        """Answer one closed question.

        Raises:
            GeneralistError: no answer could be had.
        """
        answer = _answer(await self.agenerate(request.messages), request)
        if isinstance(answer, GeneralistError):
            raise answer
        return answer

    def generate(
        self, requests: Sequence[Sequence[BaseMessage]], *, max_new_tokens: int = 256
    ) -> list[str | GeneralistError]:
        """Answer open questions, in order."""
        said = self._chat.batch(
            [list(messages) for messages in requests],
            {"max_concurrency": self.batch_size},
            return_exceptions=True,
            max_tokens=max_new_tokens,
        )
        return [_failure(one) if isinstance(one, Exception) else without_thoughts(one.text) for one in said]

    async def agenerate(self, messages: Sequence[BaseMessage], *, max_new_tokens: int = 256) -> str:
        """Answer one open question.

        Raises:
            GeneralistError: no answer could be had.
        """
        try:
            said = await self._chat.ainvoke(list(messages), max_tokens=max_new_tokens)
        except Exception as error:
            raise _failure(error) from error
        return without_thoughts(said.text)

    def stream(self, messages: Sequence[BaseMessage], *, max_new_tokens: int = 256) -> Iterator[str]:
        """Yield one answer piece by piece.

        Raises:
            GeneralistError: the model fails.
        """
        try:
            for chunk in self._chat.stream(list(messages), max_tokens=max_new_tokens):
                if chunk.text:
                    yield chunk.text
        except Exception as error:
            raise _failure(error) from error

    def call_tools(self, messages: Sequence[BaseMessage], tools: Sequence[BaseTool]) -> AIMessage:
        """Let the model answer or call tools.

        Raises:
            GeneralistError: it fails, or tools cannot be bound to it.
        """
        try:
            return self._chat.bind_tools(tools).invoke(list(messages))
        except Exception as error:
            raise _failure(error) from error

    def chat_model(self) -> BaseChatModel:
        """The chat model, which reads images by their ids."""
        return self._chat


def _unbound(model: Runnable[Any, Any]) -> tuple[BaseChatModel, dict[str, Any], dict[str, Any]]:
    """The chat model within bindings, the parameters and the configuration that were bound to it."""
    given: dict[str, Any] = {}
    config: dict[str, Any] = {}
    while isinstance(model, RunnableBinding):
        given = {**model.kwargs, **given}
        config = {**model.config, **config}
        model = model.bound
    if not isinstance(model, BaseChatModel):
        raise ConfigurationError(
            "generalist must be a LangChain chat model or a gsco generalist, not "
            f"{type(model).__name__}; a server is named by generalist_url and generalist_model"
        )
    return model, given, config


def _answer(text: str | GeneralistError, request: Choice) -> Answer | GeneralistError:
    if isinstance(text, GeneralistError):
        return text
    if not text:
        return AnswerUnparsed("the generalist gave an empty answer")
    try:
        return answer_from_text(text, request.options, request.aliases)
    except AnswerUnparsed as error:
        return error


def _failure(error: Exception) -> GeneralistError:
    if isinstance(error, GeneralistError):
        return error
    return GeneralistError(f"the generalist failed: {type(error).__name__}: {error}")
