"""Tool calls in Hermes format, for models that write them as text: the tool list out, the calls back in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage
    from langchain_core.tools import BaseTool

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_CALL = re.compile(rf"{OPEN}(.*?)(?:{CLOSE}|$)", re.S)


def specifications(tools: Sequence[BaseTool | Mapping[str, object]]) -> list[dict[str, Any]]:
    """Tools as a chat template takes them: name, description and a JSON schema of the arguments."""
    from langchain_core.utils.function_calling import convert_to_openai_tool

    return [convert_to_openai_tool(tool) for tool in tools]


def called(name: str, arguments: Mapping[str, object]) -> str:
    """A call as a model writes it."""
    return f'{OPEN}\n{{"name": {_json(name)}, "arguments": {_json(dict(arguments))}}}\n{CLOSE}'


def read_calls(text: str) -> AIMessage:
    """Read a model's answer; what is no call is its text.

    A call that is not a JSON object with a name and arguments becomes one of ``invalid_tool_calls``, with
    the reason, so that the model can be told.
    """
    from langchain_core.messages import AIMessage
    from langchain_core.messages.tool import invalid_tool_call, tool_call

    good, bad = [], []
    for raw in _CALL.findall(text):
        id = f"call-{uuid4().hex[:12]}"
        try:
            content = json.loads(raw)
            name, arguments = content["name"], content.get("arguments", {})
            if not isinstance(name, str) or not isinstance(arguments, dict):
                raise TypeError("name must be a string and arguments an object")
            good.append(tool_call(name=name, args=arguments, id=id))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"no valid tool call: {error}"
            bad.append(invalid_tool_call(name=None, args=raw.strip(), id=id, error=reason))
    return AIMessage(content=_CALL.sub("", text).strip(), tool_calls=good, invalid_tool_calls=bad)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
