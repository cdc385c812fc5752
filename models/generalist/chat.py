"""The in-process generalist as a LangChain chat model, for tracing and for that ecosystem's chains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field

from ...errors import GeneralistError
from .in_process import NO_TOOLS, InProcessGeneralist


class InProcessChat(BaseChatModel):
    """Greedy chat over an ``InProcessGeneralist``. Images are ids of its image store."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    generalist: InProcessGeneralist = Field(exclude=True, repr=False)
    max_new_tokens: int = 256

    @property
    def _llm_type(self) -> str:
        return "gsco-in-process"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.generalist.name, "version": self.generalist.version}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        """Not in this version.

        Raises:
            GeneralistError: always.
        """
        raise GeneralistError(NO_TOOLS)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        text = "".join(_until(self.generalist.stream(messages, max_new_tokens=self._limit(kwargs)), stop))
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for piece in _until(self.generalist.stream(messages, max_new_tokens=self._limit(kwargs)), stop):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
            if run_manager:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk

    def _limit(self, options: dict[str, Any]) -> int:
        return int(options.get("max_tokens") or options.get("max_new_tokens") or self.max_new_tokens)


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
