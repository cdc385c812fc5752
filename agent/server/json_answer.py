"""Answers in JSON: the ``Diagnosis`` record as the content of the agent's message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...case import Diagnosis
from .errors import ApiError

if TYPE_CHECKING:
    from .schema import ChatRequest, ResponseFormat


def check_format(wanted: ResponseFormat | None) -> bool:
    """Return whether the answer is to be JSON.

    Raises:
        Problem: the client's schema demands what a ``Diagnosis`` has not.
    """
    if wanted is None or wanted.type == "text":
        return False
    schema = _schema(wanted)
    required = schema.get("required")
    named = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    if unknown := [name for name in named if name not in Diagnosis.model_fields]:
        raise ApiError(
            400,
            f"an answer in JSON is a diagnosis record, which has no {' or '.join(unknown[:5])[:200]}; "
            f"it has: {', '.join(Diagnosis.model_fields)}",
            "response_format_refused",
            "response_format",
        )
    return True


def json_answer(request: ChatRequest, diagnoses: Sequence[Diagnosis]) -> str:
    """Write the answer: one record; of several diagnoses ``{"diagnoses": […]}``.

    A schema names the fields that it wants, and gets the latest diagnosis.

    Raises:
        Problem: there is no diagnosis.
    """
    if not diagnoses:
        raise ApiError(
            400,
            "an answer in JSON is a diagnosis record, and nothing was diagnosed; send an image, or ask "
            "without response_format",
            "no_diagnosis",
            "response_format",
        )
    records = [one.model_dump(mode="json") for one in diagnoses]
    properties = _schema(request.response_format).get("properties")
    answer: dict[str, object] = records[-1]
    if isinstance(properties, dict) and properties:
        answer = {name: value for name, value in answer.items() if name in properties}
    elif len(records) > 1:
        answer = {"diagnoses": records}
    return json.dumps(answer, ensure_ascii=False)


def _schema(wanted: ResponseFormat | None) -> dict[str, object]:
    given = ((wanted and wanted.json_schema) or {}).get("schema")
    return given if isinstance(given, dict) else {}
