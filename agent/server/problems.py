"""What goes wrong, in OpenAI's error format: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ...errors import (
    ConfigurationError,
    EvidenceMissing,
    GeneralistError,
    GscoError,
    ImageError,
    ImageMissing,
    ImageTooLarge,
    PromptTooLong,
    ReviewOpen,
    ReviewRefused,
    SpecialistError,
    StoreError,
    TaskError,
    ThreadError,
    ThreadUnknown,
)

_STATUS: tuple[tuple[type[GscoError], int], ...] = (
    (ImageTooLarge, 413),
    (ImageMissing, 400),
    (ImageError, 400),
    (TaskError, 400),
    (ThreadUnknown, 404),
    (ReviewOpen, 409),
    (ReviewRefused, 403),
    (ThreadError, 400),
    (PromptTooLong, 400),
    (GeneralistError, 502),
    (EvidenceMissing, 503),
    (SpecialistError, 503),
    (StoreError, 503),
    (ConfigurationError, 500),
)
"""The first kind that fits counts."""
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
STATUSES = (400, 401, 403, 404, 408, 409, 413, 429, 500, 502, 503, 504)
"""Every status of an error that the server answers with."""


class Fault(BaseModel):
    """What is wrong, and what to do about it."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """An error, as OpenAI's clients understand it."""

    error: Fault


class Problem(Exception):
    """A request cannot be answered.

    Args:
        status: of the HTTP response.
        message: what is wrong and what to do about it, without anything of a patient's.
        code: a word that programs go by.
        param: which field of the request is meant.
    """

    def __init__(self, status: int, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    def body(self) -> dict[str, Any]:
        """The error as it goes out."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        fault = Fault(message=str(self), type=kind, param=self.param, code=self.code)
        return ErrorBody(error=fault).model_dump()

    @property
    def headers(self) -> Mapping[str, str]:
        """What the status asks for."""
        if self.status == 401:
            return {"www-authenticate": "Bearer"}
        return {"retry-after": "2"} if self.status in (429, 503) else {}


def problem_of(error: GscoError) -> Problem:
    """Turn one of the package's errors into an answer. Its message names no patient: see ``errors``."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return Problem(status, str(error), _snake(type(error).__name__))


def invalid(errors: list[Any]) -> Problem:
    """Say which field of a request is wrong, without the value: it may be a patient's."""
    parts = []
    for error in errors[:5]:
        place = ".".join(str(part) for part in error["loc"] if part != "body")
        parts.append(f"{place or 'body'}: {error['msg'].removeprefix('Value error, ')}")
    first = errors[0]["loc"] if errors else ()
    param = ".".join(str(part) for part in first if part != "body") or None
    return Problem(400, "; ".join(parts) or "the request is not valid", "invalid_request", param)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe error responses for the OpenAPI schema."""
    return {
        status: {"model": ErrorBody, "description": "An error in OpenAI's format."} for status in statuses
    }


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
