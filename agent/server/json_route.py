"""Routes whose JSON is parsed within limits and outside the event loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine

from fastapi import Request, Response
from fastapi.routing import APIRoute

from ..json_limits import JsonTooComplex, parsed_json
from .errors import ApiError


class JsonRoute(APIRoute):
    """Parses the body before FastAPI would do it in the event loop."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[object, None, Response]]:
        """FastAPI's handler, behind the parser."""
        handler = super().get_route_handler()

        async def parsing(request: Request) -> Response:
            form = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
            if not form and (body := await request.body()):
                try:
                    # Where Starlette keeps what ``Request.json`` parsed.
                    request._json = await parsed_json(body)  # pyright: ignore[reportPrivateUsage]
                except JsonTooComplex as error:
                    raise ApiError(413, str(error), "json_too_complex") from None
                except json.JSONDecodeError:
                    pass  # FastAPI says where the mistake is
            return await handler(request)

        return parsing
