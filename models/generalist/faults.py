"""What goes wrong between here and a server, in plain words and without a word of the request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import openai

from ...errors import GeneralistError, PromptTooLong

_OVERFLOW = re.compile(
    r"context.{0,20}(?:length|window)|(?:prompt|input).{0,20}too long|too many tokens|maximum.{0,20}tokens",
    re.I,
)
_TOO_MANY_IMAGES = re.compile(r"at most (\d+) image", re.I)
_NO_VISION = re.compile(r"multi-?modal|image_url|vision|image input|images? (?:is|are) not", re.I)


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
        raise _explain(error, place(base_url), model) from error
    except Exception as error:  # the client's own parsing of an answer of another shape
        raise GeneralistError(
            f"the server at {place(base_url)} does not answer in the OpenAI shape ({type(error).__name__});"
            " check that GSCO_GENERALIST_URL ends in /v1 and names a chat completion server"
        ) from error


def place(base_url: str) -> str:
    """Host, port and path of a URL, without a user name or password."""
    url = urlsplit(base_url)
    host = f"[{url.hostname}]" if url.hostname and ":" in url.hostname else url.hostname
    return f"{url.scheme}://{host}{f':{url.port}' if url.port else ''}{url.path}"


def _explain(error: openai.OpenAIError, where: str, model: str) -> GeneralistError:
    if isinstance(error, openai.APIStatusError):
        return _refused(error, where, model)
    return GeneralistError(_broken(error, where))


def _broken(error: openai.OpenAIError, where: str) -> str:
    """No answer came."""
    if isinstance(error, openai.APITimeoutError):
        return f"the server at {where} did not answer in time; it is overloaded, or the time-out is too short"
    if not isinstance(error, openai.APIConnectionError):
        return f"the request to {where} failed ({type(error).__name__})"
    causes = f"{error.__cause__}".casefold()
    if "certificate" in causes or "ssl" in causes:
        return f"no secure connection to {where}; check its certificate, or whether it speaks https at all"
    if "disconnect" in causes or "reset" in causes or "closed" in causes or "incomplete" in causes:
        return f"the server at {where} broke off before its answer was whole; see its log"
    return f"no server answers at {where}; start it, or correct GSCO_GENERALIST_URL"


def _refused(error: openai.APIStatusError, where: str, model: str) -> GeneralistError:
    """An answer came, and it is no."""
    status, text = error.status_code, str(error)
    if status in (401, 403):
        return GeneralistError(
            f"the server at {where} refuses the API key ({status}); set GSCO_GENERALIST_API_KEY"
        )
    if status == 404:
        return GeneralistError(
            f"the server at {where} has no model {model!r} or no such address (404); see {where}/models"
        )
    if status == 429:
        return GeneralistError(
            f"the server at {where} takes no more requests now (429); ask fewer at once or later"
        )
    if status >= 500:
        return GeneralistError(f"the server at {where} failed ({status}); see its log")
    if many := _TOO_MANY_IMAGES.search(text):
        return GeneralistError(
            f"the model {model!r} at {where} takes at most {many[1]} images in one prompt; give fewer, or"
            " start the server with a higher limit if the model can take more"
        )
    if status == 413 or _OVERFLOW.search(text):
        return PromptTooLong(
            f"the prompt is longer than the model at {where} reads; give fewer similar cases or less context"
        )
    if _NO_VISION.search(text):
        return GeneralistError(
            f"the model {model!r} at {where} does not take these images; choose one with vision"
        )
    return GeneralistError(
        f"the server at {where} refuses the request ({status}); it may lack a feature, see its log"
    )
