"""What goes wrong between here and a server, in plain words and without a word of the request."""

from __future__ import annotations

import re
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import urlsplit

import openai

from ...errors import ConfigurationError, GeneralistError, GscoError, PromptTooLong, TooManyImages
from .parameters import DECISIVE, OMITTABLE, refused

_OVERFLOW = re.compile(
    r"context.{0,20}(?:length|window|size)|(?:prompt|input).{0,20}too long|too many tokens"
    r"|maximum.{0,20}(?:tokens|length)"
    # A prompt that fills the context to the last token leaves none for an answer.
    r"|max_tokens must be at least 1",
    re.I,
)
_TOO_MANY_IMAGES = re.compile(r"at most (\d+) image", re.I)
_NO_VISION = re.compile(r"multi-?modal|image_url|vision|image input|images? (?:is|are) not", re.I)
_NO_VISION_AT_ALL = re.compile(r"image input is not supported", re.I)
"""What llama.cpp says with status 500."""
# The client stands on httpx or on its successor, by version: their errors have the same names.
_CUT_OFF = {"RemoteProtocolError", "ReadError", "WriteError", "CloseError"}
_NOT_REACHED = {"ConnectError", "ConnectTimeout"}
_SLOW = {"TimeoutException", "TimeoutError"}


@contextmanager
def explained(base_url: str, model: str) -> Generator[None]:
    """Turn what goes wrong on the way into a ``GeneralistError`` that says what to do.

    The server's own words are left out, and out of the traceback: they may quote the request, and that holds
    clinical text.
    """
    try:
        yield
    except GscoError:
        raise
    except Exception as error:
        where, kinds = place(base_url), _kinds(error)
        if isinstance(error, openai.APIStatusError):
            raise _refused(error, where, model) from None
        if "TransportError" in kinds or isinstance(error, openai.APIConnectionError | OSError):
            raise GeneralistError(_broken(kinds, where)) from error
        if isinstance(error, openai.APIError):
            raise GeneralistError(f"the server at {where} failed while it answered; see its log") from None
        raise GeneralistError(
            f"the server at {where} does not answer in the OpenAI shape ({type(error).__name__});"
            " check that GSCO_GENERALIST_URL ends in /v1 and names a chat completion server"
        ) from None


def check_address(base_url: str) -> None:
    """Refuse what is no address of a server, or holds a secret: clients log the addresses that they call.

    Raises:
        ConfigurationError: it is, and what to write instead.
    """
    url = urlsplit(base_url)
    try:
        good = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:  # the port is no number
        good = False
    if not good:
        raise ConfigurationError(
            "GSCO_GENERALIST_URL must be the whole address of a server, such as http://localhost:8000/v1"
        )
    if url.username or url.password:
        raise ConfigurationError(
            "GSCO_GENERALIST_URL must not contain a user name or password; put the key into "
            "GSCO_GENERALIST_API_KEY"
        )


def place(base_url: str) -> str:
    """Host, port and path of a URL, without a user name or password."""
    url = urlsplit(base_url)
    host = f"[{url.hostname}]" if url.hostname and ":" in url.hostname else url.hostname
    return f"{url.scheme}://{host}{f':{url.port}' if url.port else ''}{url.path}"


def without_version(base_url: str) -> str:
    """Say that an address lacks what all servers of this protocol have at its end."""
    return f"an OpenAI-compatible server's address ends in /v1: try {place(base_url).rstrip('/')}/v1"


def broken_off(where: str) -> str:
    """Say that an answer began and did not end."""
    return f"the server at {where} broke off before its answer was whole; see its log"


def _kinds(error: BaseException | None) -> set[str]:
    """Names of the classes of an error and of all that led to it."""
    found: set[str] = set()
    while error is not None:
        found |= {kind.__name__ for kind in type(error).__mro__}
        error = error.__cause__ or error.__context__
    return found


def _broken(kinds: set[str], where: str) -> str:
    """No answer came, or not all of it."""
    if kinds & _NOT_REACHED:
        if ssl.SSLError.__name__ in kinds:
            return (
                f"no secure connection to {where}; check its certificate (SSL_CERT_FILE names those of an"
                " authority of your own), or whether it speaks https at all"
            )
        return f"no server answers at {where}; start it, or correct GSCO_GENERALIST_URL"
    if kinds & _SLOW:
        return f"the server at {where} did not answer in time; it is overloaded, or the time-out is too short"
    if kinds & _CUT_OFF:
        return broken_off(where)
    return f"nothing can be sent to {where}; correct GSCO_GENERALIST_URL"


def _refused(error: openai.APIStatusError, where: str, model: str) -> GeneralistError:
    """An answer came, and it is no."""
    status, text = error.status_code, str(error)
    if status in (401, 403):
        return GeneralistError(
            f"the server at {where} refuses the API key ({status}); set GSCO_GENERALIST_API_KEY"
        )
    if status == 404:
        advice = f"see {where}/models" if where.rstrip("/").endswith("/v1") else without_version(where)
        return GeneralistError(
            f"the server at {where} has no model {model!r} or no such address (404); {advice}"
        )
    if status == 429:
        return GeneralistError(
            f"the server at {where} takes no more requests now (429); ask fewer at once or later"
        )
    if status >= 500 and not _NO_VISION_AT_ALL.search(text):
        return GeneralistError(f"the server at {where} failed ({status}); see its log")
    if many := _TOO_MANY_IMAGES.search(text):
        return TooManyImages(
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
    if names := sorted(refused(text, error.param, {*DECISIVE, *OMITTABLE})):
        advice = next(
            (DECISIVE[name] for name in names if name in DECISIVE), f"set GSCO_GENERALIST_OMIT={names[0]}"
        )
        quoted = " and ".join(f"'{name}'" for name in names)
        return GeneralistError(f"the server at {where} refuses the parameter {quoted} ({status}); {advice}")
    return GeneralistError(
        f"the server at {where} refuses the request ({status}); it may lack a feature, see its log"
    )
