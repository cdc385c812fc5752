"""What goes wrong, in OpenAI's error format: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from ...errors import (
    ConfigurationError,
    ConversationsUnavailable,
    DiskError,
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
    TextTooLong,
    ThreadError,
    ThreadUnknown,
)

_STATUS: tuple[tuple[type[GscoError], int], ...] = (
    (ImageTooLarge, 413),
    (TextTooLong, 413),
    (DiskError, 507),
    (ImageMissing, 400),
    (ImageError, 400),
    (TaskError, 400),
    (ThreadUnknown, 404),
    (ConversationsUnavailable, 503),
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


class ErrorDetail(BaseModel):
    """What is wrong, and what to do about it."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """An error, as OpenAI's clients understand it."""

    error: ErrorDetail


class ApiError(Exception):
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

    def body(self) -> dict[str, object]:
        """The error as it goes out."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        fault = ErrorDetail(message=str(self), type=kind, param=self.param, code=self.code)
        return ErrorBody(error=fault).model_dump()

    @property
    def headers(self) -> Mapping[str, str]:
        """What the status asks for."""
        if self.status == 401:
            return {"www-authenticate": "Bearer"}
        return {"retry-after": "2"} if self.status in (429, 503) else {}


def api_error_of(error: GscoError) -> ApiError:
    """Turn one of the package's errors into an answer. Its message names no patient: see ``errors``."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return ApiError(status, str(error), _snake(type(error).__name__))


def invalid(errors: Sequence[ErrorDetails]) -> ApiError:
    """Say which field of a request is wrong, without the value: it may be a patient's.

    Args:
        errors: of pydantic's, with their context.
    """
    sentences = list(dict.fromkeys(_sentence(error) for error in errors))
    first = errors[0]["loc"] if errors else ()
    param = _field(first) or None
    return ApiError(400, "; ".join(sentences[:5]) or "the request is not valid", "invalid_request", param)


_LONGEST_NAME = 64
_FORMS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_LIMITS = {
    "too_short": "{field} needs at least {min_length} entries",
    "too_long": "{field} may have at most {max_length} entries",
    "string_too_short": "{field} needs at least {min_length} characters",
    "string_too_long": "{field} may have at most {max_length} characters",
    "greater_than": "{field} must be more than {gt}",
    "greater_than_equal": "{field} must be at least {ge}",
    "less_than": "{field} must be less than {lt}",
    "less_than_equal": "{field} must be at most {le}",
    "literal_error": "{field} must be {expected}",
    "string_pattern_mismatch": "{field} holds a character that is not allowed there, or is empty or too long",
}


def _sentence(error: ErrorDetails) -> str:
    field, kind = _field(error["loc"]) or "the request", error["type"]
    if kind == "missing":
        return f"{field} is missing"
    if kind == "extra_forbidden":
        return f"{field} is not a field of this request; GET /openapi.json lists them"
    if kind == "json_invalid":
        return "the request is not JSON"
    if kind in ("too_short", "string_too_short") and error.get("ctx", {}).get("min_length") == 1:
        return f"{field} must not be empty"
    if kind in _FORMS:
        return f"{field} must be {_FORMS[kind]}"
    if kind in _LIMITS:
        return _LIMITS[kind].format(field=field, **error.get("ctx", {}))
    return f"{field}: {error['msg'].removeprefix('Value error, ')}"


def _field(place: Sequence[int | str]) -> str:
    """The name of a field, cut off; the branches of a union, which pydantic names too, are left out."""
    parts = (str(part)[:_LONGEST_NAME] for part in place if part not in ("body", "str", "Part", "ImageUrl"))
    return ".".join(part for part in parts if part.isidentifier() or part.isdigit())


def documented(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Describe error responses for the OpenAPI schema."""
    return {
        status: {"model": ErrorBody, "description": "An error in OpenAI's format."} for status in statuses
    }


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
