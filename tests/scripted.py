"""A generalist whose words in a conversation are written by the test; it chooses with a real, tiny model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import ConfigDict, Field

Script = Callable[[list[BaseMessage]], AIMessage | str]


def call(name: str, id: str = "call-1", **arguments: Any) -> dict[str, Any]:
    return {"name": name, "args": arguments, "id": id, "type": "tool_call"}


def calls(*made: dict[str, Any]) -> AIMessage:
    return AIMessage("", tool_calls=[dict(one) for one in made])


def then(*turns: AIMessage | str) -> Script:
    """Say one thing after the other, counting what was said since the user's latest message."""

    def script(messages: list[BaseMessage]) -> AIMessage | str:
        since = 0
        for message in reversed(messages):
            if message.type == "human":
                break
            since += message.type == "ai"
        return turns[min(since, len(turns) - 1)]

    return script


def results(messages: list[BaseMessage]) -> list[ToolMessage]:
    return [message for message in messages if isinstance(message, ToolMessage)]


class ScriptedChat(BaseChatModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    generalist: Any = Field(exclude=True, repr=False)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self.bind(offered=[tool.name for tool in tools], **kwargs)

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ):
        said = self.generalist.says(messages, kwargs.get("offered", []))
        return ChatResult(generations=[ChatGeneration(message=said)])


class Scripted:
    """Implements ``Generalist``."""

    def __init__(self, real: Any, script: Script) -> None:
        self.real, self.script = real, script
        self.name, self.version, self.batch_size = "scripted", "1", real.batch_size
        self.context_length = real.context_length
        self.asked: list[list[BaseMessage]] = []
        self.offered: list[list[str]] = []

    def choose(self, requests: Any) -> Any:
        return self.real.choose(requests)

    def generate(self, requests: Any, *, max_new_tokens: int = 256) -> Any:
        return self.real.generate(requests, max_new_tokens=8)

    def stream(self, messages: Any, *, max_new_tokens: int = 256) -> Any:
        yield self.says(messages, []).text

    def call_tools(self, messages: Any, tools: Any) -> AIMessage:
        return self.says(messages, [tool.name for tool in tools])

    def chat_model(self) -> BaseChatModel:
        return ScriptedChat(generalist=self)

    def says(self, messages: Any, offered: list[str]) -> AIMessage:
        self.asked.append(list(messages))
        self.offered.append(offered)
        said = self.script(list(messages))
        return AIMessage(said) if isinstance(said, str) else said.model_copy(deep=True)
