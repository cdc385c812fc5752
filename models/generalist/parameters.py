"""Which request parameters a server takes: hosted models refuse some, each another, and say so in the 400."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import openai

from ...errors import ConfigurationError

LOG = logging.getLogger("gsco.generalist")
SYSTEM = "system"
"""Stands for the system message, which some models take only as a part of the question."""
OMITTABLE = (
    "temperature",
    "top_p",
    "seed",
    "max_completion_tokens",
    "max_tokens",
    "stop_token_ids",
    "stream_options",
    "parallel_tool_calls",
    SYSTEM,
)
"""What a request can go without. The two limits stand in for each other."""
DECISIVE: Mapping[str, str] = {
    "logprobs": "set GSCO_GENERALIST_MODE=decode",
    "top_logprobs": "set GSCO_GENERALIST_MODE=decode",
    "prompt_logprobs": "set GSCO_GENERALIST_MODE=decode",
    "logprob_token_ids": "set GSCO_GENERALIST_MODE=decode",
    "tools": "set GSCO_TOOL_CALLS=none or constrained",
    "tool_choice": "set GSCO_TOOL_CALLS=none or constrained",
    "response_format": "set GSCO_TOOL_CALLS=none",
    "structured_outputs": "set GSCO_TOOL_CALLS=none",
}
"""What a request is of no use without, and the setting that asks in another way."""
_LIMITS = {"max_completion_tokens": "max_tokens", "max_tokens": "max_completion_tokens"}
_REFUSAL = re.compile(
    r"unsupported|not supported|n[o']t support|not permitted|not allowed|not enabled|unrecogni[sz]ed|unknown"
    r"|unexpected|extra (?:inputs|fields)|deprecated|only the default|cannot be (?:set|used|specified)",
    re.I,
)
_INSTEAD = re.compile(r"\buse\b.*?\binstead\b", re.I | re.S)
_NO_SYSTEM = re.compile(r"\b(?:system|developer)\b.{0,12}\b(?:role|message|prompt|instruction)s?\b", re.I)


class RequestParameters:
    """What one server is sent: what it refused once is left out from then on, for all that share this.

    Args:
        server: what it is called in the log.
        omitted: what is left out from the start (``GSCO_GENERALIST_OMIT``).

    Raises:
        ConfigurationError: a name is none that a request can go without.
    """

    def __init__(self, server: str, omitted: Iterable[str] = ()) -> None:
        self._server = server
        self._omitted = set(omitted)
        if unknown := sorted(self._omitted - set(OMITTABLE)):
            raise ConfigurationError(
                f"GSCO_GENERALIST_OMIT cannot leave out {', '.join(unknown)}; it takes {', '.join(OMITTABLE)}"
            )

    @property
    def omitted(self) -> tuple[str, ...]:
        """What requests go without, in the order of ``OMITTABLE``."""
        return tuple(name for name in OMITTABLE if name in self._omitted)

    def applied(self, body: Mapping[str, Any]) -> dict[str, object]:
        """A request's body as this server takes it."""
        made = dict(body)
        for name in self.omitted:
            if name == SYSTEM:
                if "messages" in made:
                    made["messages"] = _without_system(made["messages"])
            elif name in made:
                value = made.pop(name)
                if (other := _LIMITS.get(name)) and other not in self._omitted:
                    made.setdefault(other, value)
        return made

    def learnt(self, error: openai.APIStatusError, body: Mapping[str, Any]) -> bool:
        """Learn from a refusal what to leave out; whether the request is worth sending again."""
        names = refused(str(error.message), error.param, _sent(body)) & set(OMITTABLE)
        for name in sorted(names - self._omitted):
            LOG.warning(
                "the server at %s refuses %s; requests continue without it, as with GSCO_GENERALIST_OMIT=%s",
                self._server,
                "a system message" if name == SYSTEM else f"{name!r}",
                name,
            )
        self._omitted |= names
        return bool(names) and self.applied(body) != body


def refused(text: str, named: str | None, sent: Collection[str]) -> set[str]:
    """The parameters of a request that a server's refusal is about.

    Args:
        text: the server's words.
        named: what it gives as ``param``.
        sent: names of the parameters in the request.

    Example:
        >>> refused("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", None,
        ...         {"max_tokens", "temperature"})
        {'max_tokens'}
    """
    if not _REFUSAL.search(text):
        return set()
    if named and named in sent:
        return {named}
    words = _INSTEAD.sub("", text)
    found = {name for name in sent if name != SYSTEM and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words)}
    if SYSTEM in sent and _NO_SYSTEM.search(words):
        found.add(SYSTEM)
    return found


def follow(client: openai.OpenAI, parameters: RequestParameters) -> None:
    """Let every chat completion of a client go out as its server takes it."""
    send: Any = client.request

    def request(cast_to: object, options: Any, **more: object) -> object:
        while True:
            made = _made(options, parameters)
            try:
                return send(cast_to, made, **more)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not parameters.learnt(error, _body(made)):
                    raise

    setattr(client, "request", request)  # noqa: B010 (it is a method for the type checker)


def afollow(client: openai.AsyncOpenAI, parameters: RequestParameters) -> None:
    """The same for an asynchronous client."""
    send: Any = client.request

    async def request(cast_to: object, options: Any, **more: object) -> object:
        while True:
            made = _made(options, parameters)
            try:
                return await send(cast_to, made, **more)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not parameters.learnt(error, _body(made)):
                    raise

    setattr(client, "request", request)  # noqa: B010


def _made(options: Any, parameters: RequestParameters) -> Any:
    if not str(options.url).endswith("/chat/completions") or not isinstance(options.json_data, Mapping):
        return options
    extra = {"extra_json": parameters.applied(options.extra_json)} if options.extra_json else {}
    return options.model_copy(update={"json_data": parameters.applied(options.json_data), **extra})


def _body(options: Any) -> dict[str, object]:
    data = options.json_data if isinstance(options.json_data, Mapping) else {}
    return {**data, **(options.extra_json or {})}


def _sent(body: Mapping[str, Any]) -> set[str]:
    system = any(turn.get("role") in ("system", "developer") for turn in body.get("messages", ()))
    return {*body, *((SYSTEM,) if system else ())} - {"messages", "model"}


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, object]]:
    """The system message's text at the beginning of the first question."""
    rules = [turn["content"] for turn in messages if turn["role"] in ("system", "developer")]
    rest = [turn for turn in messages if turn["role"] not in ("system", "developer")]
    place = next((place for place, turn in enumerate(rest) if turn["role"] == "user"), None)
    if not rules or place is None:
        return messages
    text, content = "\n\n".join(map(str, rules)), rest[place]["content"]
    opened = (
        f"{text}\n\n{content}" if isinstance(content, str) else [{"type": "text", "text": text}, *content]
    )
    return [*rest[:place], {**rest[place], "content": opened}, *rest[place + 1 :]]
