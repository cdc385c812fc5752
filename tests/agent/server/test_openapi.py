"""Requests made up from the OpenAPI schema: no crash, and every answer as the schema says."""

from typing import Any, cast

import pytest
import schemathesis
from gsco.agent.server.app import create_app
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

# The schema is the same whatever answers.
SCHEMA = schemathesis.openapi.from_dict(create_app(cast(Any, None)).openapi())
OPERATIONS = {each.ok().label: each.ok() for each in SCHEMA.get_all_operations()}
CONFORMANCE = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]


VALID, WRONG = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
# Where nothing is sent, nothing can be wrong.
CASES = [(label, VALID) for label in OPERATIONS]
CASES += [(label, WRONG) for label, operation in OPERATIONS.items() if operation.method.upper() == "POST"]


@pytest.mark.parametrize(("label", "mode"), CASES, ids=lambda each: getattr(each, "value", each))
def test_every_answer_is_as_the_schema_says(address, label, mode):
    operation = OPERATIONS[label]

    @settings(
        max_examples=40 if operation.method.upper() == "POST" else 10,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def answered(case) -> None:
        if mode is VALID and isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = "gsco"  # any other is not found, and the rest is not looked at
        response = case.call(base_url=address, timeout=120)
        # Not being ready is said by a server error on purpose.
        crash = [] if label == "GET /readyz" else [not_a_server_error]
        case.validate_response(response, checks=[*crash, *CONFORMANCE])

    answered()


def test_all_operations_are_there():
    assert len(OPERATIONS) >= 10
