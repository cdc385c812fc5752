"""The body of ``POST /v1/diagnose``: JSON with data URIs, or a form with files, as ``curl -F`` sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from .data_uri import image_bytes
from .errors import ApiError, invalid
from .schema import DiagnosisOptions, DiagnosisRequest

if TYPE_CHECKING:
    from starlette.requests import Request

M = TypeVar("M", bound=BaseModel)
FORM = "multipart/form-data"
IMAGES = 16
"""A case may have so many images."""


def body_schema() -> dict[str, object]:
    """Describe both forms of the body for the OpenAPI schema."""
    form = DiagnosisOptions.model_json_schema()
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    form["properties"] = {
        "image": {"type": "array", "items": file, "minItems": 1, "maxItems": IMAGES},
        **form["properties"],
        "window": {"type": "string", "description": "Center and width, with a comma."},
    }
    form["required"] = ["image"]
    return {
        "required": True,
        "content": {
            "application/json": {"schema": DiagnosisRequest.model_json_schema()},
            FORM: {"schema": form},
        },
    }


async def read_diagnosis(request: Request) -> tuple[DiagnosisOptions, list[bytes]]:
    """Return what is asked, and the files of the images.

    Raises:
        Problem: the body is neither form, a field is wrong, or an image is no data URI.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == FORM:
        return await _form(request)
    body = _validated(DiagnosisRequest, await request.body())
    addresses = [body.image] if isinstance(body.image, str) else body.image
    return body, [image_bytes(address, "image") for address in addresses]


async def _form(request: Request) -> tuple[DiagnosisOptions, list[bytes]]:
    try:
        async with request.form(max_files=IMAGES, max_fields=100) as form:
            images = [
                await item.read() if isinstance(item, UploadFile) else image_bytes(item, "image")
                for item in form.getlist("image")
            ]
            fields: dict[str, object] = {name: value for name, value in form.items() if name != "image"}
    except HTTPException as error:
        raise ApiError(400, f"the form cannot be read: {error.detail}", "invalid_request") from None
    if not images:
        raise ApiError(
            400, "image is missing; send the file as the form's field `image`", "invalid_request", "image"
        )
    if isinstance(window := fields.get("window"), str):
        fields["window"] = window.split(",")
    return _validated(
        DiagnosisOptions, {name: value for name, value in fields.items() if value != ""}
    ), images


def _validated(model: type[M], given: bytes | dict[str, object]) -> M:
    try:
        if isinstance(given, bytes):
            return model.model_validate_json(given)
        return model.model_validate(given)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_input=False)) from None
