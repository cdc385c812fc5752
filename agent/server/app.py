"""The server's application: routes, and what stands before them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ... import __version__
from ...case import DISCLAIMER
from ...errors import GscoError
from .auth_middleware import AuthMiddleware
from .errors import ApiError, api_error_of, invalid
from .policy import ServerPolicy
from .readiness import Readiness
from .routes import routes
from .telemetry import Metrics, TelemetryMiddleware

if TYPE_CHECKING:
    from ..api import GSCo

_ABOUT = f"""\
{DISCLAIMER}

Chat with the consulting agent by OpenAI's protocol, or have one case diagnosed. Images are sent as data URIs;
no address is ever fetched."""


def create_app(gsco: GSCo, policy: ServerPolicy | None = None) -> FastAPI:
    """Make the application.

    Args:
        gsco: what answers; whoever made it closes it.
        policy: who may ask, and how much.
    """
    policy, metrics, readiness = policy or ServerPolicy(), Metrics(), Readiness(gsco)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncGenerator[None]:
        readiness.look()
        yield

    app = FastAPI(
        title="gsco",
        version=__version__,
        description=_ABOUT,
        lifespan=life,
        # FastAPI's pages on the schema load their scripts from a content delivery network; see docs_page.
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(routes(gsco, policy, metrics, readiness))
    app.openapi = lambda: _schema(app, asks_keys=bool(policy.users))
    app.add_exception_handler(ApiError, _answer_problem)
    app.add_exception_handler(GscoError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    # What is added last is outermost.
    app.add_middleware(AuthMiddleware, policy=policy)
    app.add_middleware(TelemetryMiddleware, metrics=metrics)
    return app


def _schema(app: FastAPI, *, asks_keys: bool) -> dict[str, object]:
    """The OpenAPI schema, without the validation errors that FastAPI would answer with and we do not."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
    if asks_keys:
        schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"key": []}]
    app.openapi_schema = schema
    return schema


def _answer(problem: ApiError) -> JSONResponse:
    return JSONResponse(problem.body(), problem.status, headers=dict(problem.headers))


async def _answer_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return _answer(error)


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GscoError)
    return _answer(api_error_of(error))


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _answer(invalid(list(error.errors())))


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    what = HTTPStatus(error.status_code).phrase.lower()
    response = _answer(
        ApiError(error.status_code, f"{what}; GET /docs lists what there is", what.replace(" ", "_"))
    )
    response.headers.update(error.headers or {})
    return response
