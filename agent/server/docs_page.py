"""``/docs``: the API described and tried out in a browser, with Swagger UI from this machine.

FastAPI's own page loads its script from a content delivery network. Here all of it is served by the server.
"""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

PATH = "/docs"
_FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
_START = "start.js"
PATHS = frozenset({PATH, *(f"{PATH}/{name}" for name in (*_FILES, _START))})
"""All addresses of the page. They hold nothing of anybody's."""

_HTML = f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>gsco API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{PATH}/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{PATH}/swagger-ui-bundle.js"></script>
<script src="{PATH}/{_START}"></script>
</body>
</html>
"""
_SCRIPT = """\
SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", validatorUrl: null, deepLinking: true});
"""
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}


def docs_router() -> APIRouter:
    """Make the routes of the page; they are not part of the schema."""
    router = APIRouter(include_in_schema=False)
    static = Path(fastapi_offline.__file__).parent / "static"

    @router.get(PATH)
    async def page() -> Response:
        return HTMLResponse(_HTML, headers=_HEADERS)

    @router.get(f"{PATH}/{_START}")
    async def start() -> Response:
        return Response(_SCRIPT, media_type="text/javascript", headers=_HEADERS)

    for name, kind in _FILES.items():
        router.add_api_route(f"{PATH}/{name}", _file(static / name, kind))
    return router


def _file(path: Path, kind: str):
    async def answer() -> Response:
        return FileResponse(path, media_type=kind, headers=_HEADERS)

    return answer
