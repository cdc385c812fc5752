"""What a server is and can do: asked once, with requests that cost next to nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import openai

from ..serving.profiles import ServingProfile, profile_of

Level = Literal["native", "constrained", "none"]

_SAID = [{"role": "user", "content": "Question"}, {"role": "assistant", "content": "Answer"}]
_CONTROL = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
"""What a control token looks like, unlike the words that a template may put between turns."""
_UNABLE = (openai.BadRequestError, openai.UnprocessableEntityError, openai.NotFoundError)
"""What a server says that knows the request's shape but not this feature."""
_NOTHING = {
    "type": "function",
    "function": {"name": "nothing", "description": "Does nothing.", "parameters": {"type": "object"}},
}
_TRUE: dict[str, object] = {
    "type": "object",
    "properties": {"yes": {"const": True}},
    "required": ["yes"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Endpoint:
    """What was found out about a server."""

    models: tuple[str, ...]
    vllm: bool
    end_of_turn: str = ""
    """The text of the token that ends an answer; empty where the server does not tell."""
    continues: bool = True
    """Whether the template writes an answer as it opens one: options are then scored where answers begin."""
    context_length: int = 0
    """Tokens of prompt and answer; 0 where the server does not tell."""
    profile: ServingProfile | None = None
    """How the model wants to be asked, where its name or the folder it was loaded from is known."""


def discover(client: openai.OpenAI, model: str) -> Endpoint:
    """Ask a server what it is.

    Args:
        client: connected to it.
        model: that is going to be asked; empty for the only one.
    """
    try:
        listed = list(client.models.list())
    except openai.NotFoundError:
        listed = []  # a server for one model need not list it
    asked = next((entry for entry in listed if entry.id == model), listed[0] if listed else None)
    extra = (asked.model_extra if asked else None) or {}
    vllm = any(getattr(entry, "owned_by", "") == "vllm" for entry in listed)
    name = model or (asked.id if asked else "")
    end, continues = _turn(client, name) if vllm else ("", True)
    return Endpoint(
        models=tuple(entry.id for entry in listed),
        vllm=vllm,
        end_of_turn=end,
        continues=continues,
        context_length=int(extra.get("max_model_len") or 0),
        profile=profile_of(name) or profile_of(str(extra.get("root") or "")),
    )


def tool_level(client: openai.OpenAI, model: str, endpoint: Endpoint) -> Level:
    """The best way of calling tools that a server has.

    A server that refuses a request with tools has no native calls. vLLM can hold any model to a JSON schema;
    of another server that is tried.
    """
    body = {"messages": [{"role": "user", "content": "Say yes."}], "temperature": 0}
    if _takes(client, model, body, tools=[_NOTHING], tool_choice="auto", max_tokens=1) is not None:
        return "native"
    if endpoint.vllm:
        return "constrained"
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": _TRUE, "strict": True}}
    said = _takes(client, model, body, response_format=form, max_tokens=32)
    return "constrained" if _is_true(said) else "none"


def tokens_of(client: openai.OpenAI, model: str, text: str) -> Sequence[int]:
    """Token ids of a text, by vLLM's own address for that; empty where the server has none."""
    try:
        answer = ask_vllm(client, model, "/tokenize", {"prompt": text, "add_special_tokens": False})
    except openai.NotFoundError:
        return ()
    return [int(token) for token in answer["tokens"]]


def content_text(content: Any) -> str:
    """The text of an answer, which some servers give as a list of parts."""
    if not isinstance(content, list):
        return str(content or "")
    return "".join(
        part if isinstance(part, str) else str(part.get("text") or "")
        for part in content
        if isinstance(part, str) or part.get("type", "text") in ("text", "output_text")
    )


def ask_vllm(client: openai.OpenAI, model: str, address: str, body: Mapping[str, object]) -> Any:
    """Ask one of vLLM's own addresses, which lie beside ``/v1``."""
    url = urlsplit(str(client.base_url))
    path = url.path.rstrip("/").removesuffix("/v1") + address
    whole = urlunsplit((url.scheme, url.netloc, path, "", ""))
    return client.post(whole, body={"model": model, **body}, cast_to=object)


def _turn(client: openai.OpenAI, model: str) -> tuple[str, bool]:
    """The control token that the served template puts behind an answer, or nothing; and ``continues``."""
    body = {"messages": _SAID, "add_generation_prompt": False}
    try:
        whole = ask_vllm(client, model, "/tokenize", body)["tokens"]
        begun = ask_vllm(client, model, "/tokenize", {**body, "continue_final_message": True})["tokens"]
        opened = ask_vllm(client, model, "/tokenize", {"messages": _SAID[:1]})["tokens"]
        continues = begun[: len(opened)] == opened
        if whole[: len(begun)] != begun or len(whole) == len(begun):
            return "", continues
        end = [whole[len(begun)]]
        text = str(ask_vllm(client, model, "/detokenize", {"tokens": end})["prompt"]).strip()
    except _UNABLE:
        return "", True
    known = _CONTROL.fullmatch(text) and list(tokens_of(client, model, text)) == end
    return text if known else "", continues


def _takes(client: openai.OpenAI, model: str, body: Mapping[str, object], **more: object) -> str | None:
    """What the model says to a request; None if the server refuses it."""
    try:
        answer: Any = client.post("/chat/completions", body={"model": model, **body, **more}, cast_to=object)
    except _UNABLE:
        return None
    return content_text(answer["choices"][0]["message"].get("content"))


def _is_true(text: str | None) -> bool:
    try:
        return json.loads(text or "") == {"yes": True}
    except ValueError:
        return False
