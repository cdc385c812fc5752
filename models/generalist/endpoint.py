"""The wire to an OpenAI-compatible server: LangChain's client, images by id, and errors in plain words."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import openai
from langchain_core.messages import BaseMessage
from langchain_openai import ChatOpenAI
from pydantic import Field, SecretStr

from ...errors import GeneralistError, ImageError, PromptTooLong
from .messages import neutralise, parts

if TYPE_CHECKING:
    from ...images import ImageStore

_LONGEST_SIDE = 2048
_OVERFLOW = re.compile(r"context.{0,20}length|too long|too many tokens|maximum.{0,20}tokens", re.I)
_NO_VISION = re.compile(r"multi-?modal|image_url|vision|image input|images? (?:is|are) not", re.I)


class ImageUris:
    """Data URIs of stored images: PNG, at most 2048 pixels a side, the latest kept."""

    def __init__(self, images: ImageStore) -> None:
        self._images = images
        self.of = lru_cache(maxsize=64)(self._encode)

    def _encode(self, id: str) -> str:
        image = self._images.get(id)
        if max(image.size) > _LONGEST_SIDE:
            image = image.copy()
            image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


class EndpointChat(ChatOpenAI):
    """``ChatOpenAI`` that takes image ids and puts the pixels into the request only."""

    image_uris: Any = Field(exclude=True, repr=False)

    def _get_request_payload(
        self, input_: Any, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        messages = [self.resolved(message) for message in self._convert_input(input_).to_messages()]
        return super()._get_request_payload(messages, stop=stop, **kwargs)

    def resolved(self, message: BaseMessage) -> BaseMessage:
        """The message with image ids replaced by data URIs and the user's control tokens broken up.

        Raises:
            GeneralistError: an image stands outside a user message, or cannot be had.
        """
        images, text = parts(message)
        if message.type not in ("human", "tool"):
            return message
        if not images:
            return message.model_copy(update={"content": neutralise(text)})
        try:
            urls = [{"type": "image_url", "image_url": {"url": self.image_uris.of(id)}} for id in images]
        except ImageError as error:
            raise GeneralistError(f"an image of the question cannot be had: {error}") from error
        return message.model_copy(update={"content": [*urls, {"type": "text", "text": neutralise(text)}]})


def connect(
    base_url: str, model: str, api_key: SecretStr, images: ImageStore, timeout: float, retries: int
) -> EndpointChat:
    """A client for one model of a server. Nothing is sent yet."""
    return EndpointChat(
        base_url=base_url,
        model=model,
        # Never empty: the client would look for another key in the environment and send that one.
        api_key=api_key if api_key.get_secret_value() else SecretStr("none"),
        temperature=0,
        timeout=timeout,
        max_retries=retries,
        use_responses_api=False,
        image_uris=ImageUris(images),
    )


@contextmanager
def explained(base_url: str, model: str) -> Iterator[None]:
    """Turn what goes wrong on the way into a ``GeneralistError`` that says what to do.

    The server's own words are left out: they may quote the request, and that holds clinical text.
    """
    try:
        yield
    except GeneralistError:
        raise
    except openai.OpenAIError as error:
        kind = PromptTooLong if _overflows(error) else GeneralistError
        raise kind(_explain(error, place(base_url), model)) from error
    except Exception as error:  # the client's own parsing of an answer of another shape
        raise GeneralistError(
            f"the server at {place(base_url)} does not answer in the OpenAI shape ({type(error).__name__});"
            " check that GSCO_GENERALIST_URL ends in /v1 and names a chat completion server"
        ) from error


def place(base_url: str) -> str:
    """Host, port and path of a URL, without a user name or password."""
    url = urlsplit(base_url)
    return f"{url.scheme}://{url.hostname}{f':{url.port}' if url.port else ''}{url.path}"


def _overflows(error: openai.OpenAIError) -> bool:
    return (
        isinstance(error, openai.APIStatusError)
        and error.status_code == 400
        and bool(_OVERFLOW.search(str(error)))
    )


def _explain(error: openai.OpenAIError, where: str, model: str) -> str:
    if isinstance(error, openai.APITimeoutError):
        return f"the server at {where} did not answer in time; it is overloaded, or the time-out is too short"
    if isinstance(error, openai.APIConnectionError):
        causes = f"{error.__cause__}".casefold()
        if "certificate" in causes or "ssl" in causes:
            return (
                f"no secure connection to {where}; check its certificate, or whether it speaks https at all"
            )
        return f"no server answers at {where}; start it, or correct GSCO_GENERALIST_URL"
    if not isinstance(error, openai.APIStatusError):
        return f"the request to {where} failed ({type(error).__name__})"
    status = error.status_code
    if status in (401, 403):
        return f"the server at {where} refuses the API key ({status}); set GSCO_GENERALIST_API_KEY"
    if status == 404:
        return f"the server at {where} has no model {model!r} or no such address (404); see {where}/models"
    if status == 429:
        return f"the server at {where} takes no more requests now (429); ask fewer at once or later"
    if status >= 500:
        return f"the server at {where} failed ({status}); see its log"
    text = str(error)
    if _OVERFLOW.search(text):
        return (
            f"the prompt is longer than the model at {where} reads; give fewer similar cases or less context"
        )
    if _NO_VISION.search(text):
        return f"the model {model!r} at {where} does not take these images; choose one with vision"
    return f"the server at {where} refuses the request ({status}); it may lack a feature, see its log"
