"""An answer in OpenAI's form, whole or in chunks, whatever makes its words."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from uuid import uuid4

from . import schema
from .content import text_of

CHARACTERS_PER_TOKEN = 4
"""What ``usage`` is estimated by."""


@dataclass(frozen=True)
class Piece:
    """A piece of the answer: words, or reasoning."""

    words: str = ""
    reasoning: str = ""


@dataclass(kw_only=True)
class ChatAnswer(ABC):
    """The answer to one request.

    Attributes:
        request: as the client sent it.
        id: of the completion.
        created: seconds since 1970.
        outcome: what gsco says besides the words; complete once all pieces are out.
    """

    request: schema.ChatRequest
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    outcome: schema.GscoFields = field(default_factory=schema.GscoFields)

    @abstractmethod
    def pieces(self, *, streamed: bool) -> AsyncGenerator[Piece]:
        """Yield the answer; ``streamed`` as it comes, else only what stands at the end."""

    def completion(self, words: str, thought: str) -> schema.Completion:
        """The whole answer."""
        answer = schema.AssistantMessage(content=words, reasoning_content=thought or None)
        return schema.Completion(
            id=self.id,
            created=self.created,
            model=self.request.model,
            choices=[schema.CompletionChoice(message=answer)],
            usage=usage(self.request, words + thought),
            gsco=self.outcome,
        )

    def chunk(self, delta: dict[str, object], finish: str | None = None, **more: object) -> dict[str, object]:
        """One chunk of the stream."""
        return self._chunk([{"index": 0, "delta": delta, "finish_reason": finish}], **more)

    def usage_chunk(self, said: str) -> dict[str, object]:
        """The chunk after the last one, for clients that ask for usage."""
        return self._chunk([], usage=usage(self.request, said).model_dump())

    def _chunk(self, choices: list[dict[str, object]], **more: object) -> dict[str, object]:
        return {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.request.model,
            "choices": choices,
            **more,
        }


@dataclass(kw_only=True)
class ClientTaskAnswer(ChatAnswer):
    """Words that need no agent, such as a title that the client asks for."""

    words: str

    async def pieces(self, *, streamed: bool) -> AsyncGenerator[Piece]:
        """Yield the words."""
        yield Piece(words=self.words)


def usage(request: schema.ChatRequest, answer: str) -> schema.Usage:
    """Estimate the tokens of a request's words and of its answer; images are not counted."""
    asked = -(-sum(len(text_of(one)) for one in request.messages) // CHARACTERS_PER_TOKEN)
    answered = -(-len(answer) // CHARACTERS_PER_TOKEN)
    return schema.Usage(prompt_tokens=asked, completion_tokens=answered, total_tokens=asked + answered)
