"""The in-process generalist as a LangChain chat model, for tracing and for that ecosystem's chains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import ConfigDict, Field

from ...errors import GeneralistError
from .in_process import InProcessGeneralist
from .tool_calls import OPEN, read_calls, specifications


class InProcessChat(BaseChatModel):
    """Greedy chat over an ``InProcessGeneralist``. Images are ids of its image store."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    generalist: InProcessGeneralist = Field(exclude=True, repr=False)
    max_new_tokens: int = 256

    @property
    def _llm_type(self) -> str:
        return "gsco-in-process"

    @property
    def _identifying_params(self) -> dict[str, object]:
        return {"model": self.generalist.name, "version": self.generalist.version}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools that the model may call; it chooses freely.

        Raises:
            GeneralistError: a certain tool is demanded, which this runtime cannot hold a model to.
        """
        if kwargs.pop("tool_choice", None) not in (None, "auto"):
            raise GeneralistError("in process the model chooses freely; leave tool_choice out")
        return self.bind(tools=specifications(tools), **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if tools := kwargs.get("tools"):
            answer = self.generalist.call_tools(messages, tools, max_new_tokens=self._limit(kwargs))
            return ChatResult(generations=[ChatGeneration(message=answer)])
        text = "".join(_until(self.generalist.stream(messages, max_new_tokens=self._limit(kwargs)), stop))
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if tools := kwargs.get("tools"):
            answer = await self.generalist.acall_tools(messages, tools, max_new_tokens=self._limit(kwargs))
            return ChatResult(generations=[ChatGeneration(message=answer)])
        return await super()._agenerate(messages, stop, run_manager, **kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        if tools := kwargs.get("tools"):
            pieces = self.generalist.stream(messages, max_new_tokens=self._limit(kwargs), tools=tools)
            for message in _spoken(pieces):
                yield ChatGenerationChunk(message=message)
            return
        for piece in _until(self.generalist.stream(messages, max_new_tokens=self._limit(kwargs)), stop):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
            if run_manager:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk

    def _limit(self, options: dict[str, Any]) -> int:
        return int(options.get("max_tokens") or options.get("max_new_tokens") or self.max_new_tokens)


def _spoken(pieces: Iterator[str]) -> Iterator[AIMessageChunk]:
    """Words as they come; calls, which are of use only as a whole, at the end."""
    text, given = "", 0
    for piece in pieces:
        text += piece
        begun = text.find(OPEN)
        safe = begun if begun >= 0 else max(given, len(text) - _beginning_of(OPEN, text))
        if text[given:safe]:
            yield AIMessageChunk(content=text[given:safe])
        given = safe
    made = read_calls(text)
    rest = "" if OPEN in text else text[given:]
    yield AIMessageChunk(content=rest, tool_calls=made.tool_calls, invalid_tool_calls=made.invalid_tool_calls)


def _beginning_of(word: str, text: str) -> int:
    """How many characters at the end of a text may be the beginning of a word."""
    return next((size for size in range(len(word) - 1, 0, -1) if text.endswith(word[:size])), 0)


def _until(pieces: Iterator[str], stop: Sequence[str] | None) -> Iterator[str]:
    """Pieces up to the first stop text, which may lie across two of them."""
    if not stop:
        yield from pieces
        return
    text, given = "", 0
    longest = max(map(len, stop))
    for piece in pieces:
        text += piece
        ends = [at for word in stop if (at := text.find(word)) >= 0]
        safe = min(ends) if ends else max(given, len(text) - longest + 1)
        yield text[given:safe]
        given = safe
        if ends:
            return
    yield text[given:]
