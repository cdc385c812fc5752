"""Tool calls of models that know nothing of tools: the answer is held to a JSON form.

The form is one ``anyOf``: a call of one of the tools, or an answer in words. The model is told of the tools
in the system message, and a conversation that already holds calls and results is put into words, since the
chat template of such a model has no place for them. Images stay in the user's messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from ...errors import CallUnreadable, GeneralistError
from .messages import parts
from .prompts import SYSTEM

ANSWER = "answer"
"""What stands in the place of a tool's name where the model answers in words."""

_INSTRUCTION = (
    "You can use these tools:\n{tools}\n"
    'To use one, answer with {{"tool": its name, "arguments": its arguments}}. '
    'To answer the user, answer with {{"tool": "answer", "arguments": {{"text": your answer}}}}.'
)


def form_of(tools: Sequence[Mapping[str, Any]], choice: str = "auto") -> dict[str, Any]:
    """The JSON schema of an answer.

    Args:
        tools: in OpenAI's form.
        choice: ``auto`` lets the model answer in words too, ``any`` does not, and a name demands that tool.

    Raises:
        GeneralistError: there is no tool of that name.
    """
    functions = [tool["function"] for tool in tools]
    if choice not in ("auto", "any"):
        functions = [function for function in functions if function["name"] == choice]
    if not functions:
        raise GeneralistError(f"no tool {choice!r} is among those that the model may call")
    forms = [
        _form(function["name"], function.get("parameters") or {"type": "object"}) for function in functions
    ]
    if choice == "auto":
        text = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
        forms.append(_form(ANSWER, {**text, "additionalProperties": False}))
    return {"anyOf": forms}


def in_words(messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, object]]) -> list[BaseMessage]:
    """The conversation for a model without tools: told of them, and with calls and results as text."""
    instruction = _INSTRUCTION.format(tools="\n".join(_json(tool["function"]) for tool in tools))
    spoken = list(_joined(_spoken(messages)))
    first = spoken[0] if spoken else None
    if isinstance(first, SystemMessage):
        return [SystemMessage(f"{parts(first)[1]}\n{instruction}"), *spoken[1:]]
    return [SystemMessage(f"{SYSTEM}\n{instruction}"), *spoken]


def read_call(text: str) -> AIMessage:
    """What a model answered in the form.

    Raises:
        CallUnreadable: it is not in the form, as happens where the answer was cut off.
    """
    try:
        content = json.loads(text)
        name, arguments = content["tool"], content["arguments"]
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise TypeError
        if name == ANSWER:
            return AIMessage(str(arguments["text"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CallUnreadable(
            f"the generalist's answer ({len(text)} characters) is not a tool call in the required form: it"
            " was cut off, or the server does not hold models to a form; let it answer with more tokens, or"
            " set GSCO_TOOL_CALLS to none"
        ) from error
    call = {"name": name, "args": arguments, "id": f"call-{uuid4().hex[:12]}", "type": "tool_call"}
    return AIMessage(content="", tool_calls=[call])


def _form(name: str, arguments: Mapping[str, object]) -> dict[str, object]:
    return {
        "type": "object",
        "properties": {"tool": {"const": name}, "arguments": {**arguments}},
        "required": ["tool", "arguments"],
        "additionalProperties": False,
    }


def _spoken(messages: Sequence[BaseMessage]) -> Iterator[BaseMessage]:
    names: dict[str, str] = {}
    for message in messages:
        if isinstance(message, AIMessage) and message.tool_calls:
            names |= {str(call["id"]): call["name"] for call in message.tool_calls}
            said = [_json({"tool": call["name"], "arguments": call["args"]}) for call in message.tool_calls]
            yield AIMessage("\n".join(filter(None, [parts(message)[1], *said])))
        elif isinstance(message, ToolMessage):
            name = message.name or names.get(message.tool_call_id, "the tool")
            yield HumanMessage(f"Result of {name}:\n{parts(message)[1]}")
        else:
            yield message


def _joined(messages: Iterator[BaseMessage]) -> Iterator[BaseMessage]:
    """User messages in a row as one: many templates want the roles to take turns."""
    waiting: HumanMessage | None = None
    for message in messages:
        if isinstance(message, HumanMessage):
            waiting = _together(waiting, message) if waiting else message
            continue
        if waiting:
            yield waiting
        waiting = None
        yield message
    if waiting:
        yield waiting


def _together(one: HumanMessage, other: HumanMessage) -> HumanMessage:
    (images, text), (more, further) = parts(one), parts(other)
    said = f"{text}\n\n{further}"
    if not (images or more):
        return HumanMessage(said)
    blocks: list[str | dict[object, object]] = [{"type": "image", "file_id": id} for id in (*images, *more)]
    return HumanMessage([*blocks, {"type": "text", "text": said}])


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
