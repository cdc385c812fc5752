"""What every generalist can do, whichever runtime stands behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ...case import Answer
from ...errors import GeneralistError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.tools import BaseTool


@dataclass(frozen=True)
class Choice:
    """A closed question: pick one of the options.

    ``messages`` are LangChain messages. An image in them is the standard block
    ``{"type": "image", "file_id": ImageRef.id}``; the generalist fetches the pixels itself, so that
    they never stand in a graph's state.
    """

    messages: Sequence[BaseMessage]
    options: tuple[str, ...]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@runtime_checkable
class Generalist(Protocol):
    """A vision-language model that decides.

    All methods block; callers on an event loop go through ``_support.batching.Batcher``.
    """

    name: str
    """What a reader recognises: model name and runtime."""
    version: str
    """First twelve hex digits of the weights' sha256, or the server's own model id."""
    batch_size: int
    """How many requests one call of ``choose`` or ``generate`` profits from."""

    def choose(self, requests: Sequence[Choice]) -> list[Answer | GeneralistError]:
        """Answer closed questions, in order; a request that fails yields its error in its place.

        ``Answer.probabilities`` is normalised over the options, or None where the endpoint gives no
        log-probabilities; then the text was matched to an option and ``Answer.parse`` says how.
        """
        ...

    def generate(
        self, requests: Sequence[Sequence[BaseMessage]], *, max_new_tokens: int = 256
    ) -> list[str | GeneralistError]:
        """Answer open questions, greedily, in order."""
        ...

    def stream(self, messages: Sequence[BaseMessage], *, max_new_tokens: int = 256) -> Iterator[str]:
        """Yield the text of one answer piece by piece.

        Raises:
            GeneralistError: the model cannot be reached or the prompt does not fit.
        """
        ...

    def call_tools(self, messages: Sequence[BaseMessage], tools: Sequence[BaseTool]) -> AIMessage:
        """Let the model answer or call tools.

        Raises:
            GeneralistError: the model has no way of calling tools.
        """
        ...

    def chat_model(self) -> BaseChatModel:
        """The LangChain chat model underneath, for tracing and for that ecosystem's agents."""
        ...


@runtime_checkable
class AsyncGeneralist(Generalist, Protocol):
    """A generalist that waits for a server instead of computing, so that requests need no batching.

    Cancelling a call also cancels the request to the server.
    """

    async def achoose(self, request: Choice) -> Answer:
        """Answer one closed question.

        Raises:
            GeneralistError: there is no answer.
        """
        ...

    async def agenerate(self, messages: Sequence[BaseMessage], *, max_new_tokens: int = 256) -> str:
        """Answer one open question, greedily.

        Raises:
            GeneralistError: there is no answer.
        """
        ...
