"""What is checked before the application sees a request: host, key, crowd and size.

It stands before the application so that a request of nobody's is not read, and so that no more is held in
memory than ``at_once`` times ``max_bytes``.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from ..access import names_this_machine
from . import docs_page
from .policy import ServerPolicy
from .problems import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = frozenset({"/healthz", "/readyz", "/openapi.json", *docs_page.PATHS})
"""What anybody may ask: it tells nothing of anybody."""
_ADVICE = "send the header Authorization: Bearer KEY with one of the keys in GSCO_API_KEYS"


class Doorkeeper:
    """Lets requests through that the policy allows, with their user in ``scope["state"]``."""

    def __init__(self, app: ASGIApp, policy: ServerPolicy) -> None:
        self._app = app
        self._policy = policy
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check_host(scope)
            user = self._user(scope)
            if scope["path"] in OPEN:
                await self._app(scope, receive, send)
                return
            self._check_crowd()
        except Problem as problem:
            await refuse(problem, send)
            return
        self._inside += 1
        try:
            scope.setdefault("state", {})["user"] = user
            await self._app(scope, replayed(await self._read(scope, receive), receive), send)
        except Problem as problem:
            await refuse(problem, send)
        finally:
            self._inside -= 1

    def _check_host(self, scope: Scope) -> None:
        """Without keys, a web page that makes its name point here must not reach the server."""
        if self._policy.users:
            return
        if not names_this_machine(_header(scope, b"host")):
            raise Problem(
                403,
                "without API keys only this machine is served, as localhost or 127.0.0.1",
                "host_not_allowed",
            )

    def _user(self, scope: Scope) -> str:
        if scope["path"] in OPEN:
            return ""
        scheme, _, key = _header(scope, b"authorization").partition(" ")
        user = self._policy.users.owner(key.strip() if scheme.lower() == "bearer" else "")
        if user is None:
            raise Problem(401, f"there is no such API key; {_ADVICE}", "invalid_api_key")
        return user

    def _check_crowd(self) -> None:
        if self._inside >= self._policy.at_once:
            raise Problem(
                429,
                f"{self._inside} requests are being worked on; try again in a moment",
                "too_many_requests",
            )

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body, within the limits on size and time."""
        declared = _header(scope, b"content-length")
        if declared.isdigit() and int(declared) > self._policy.max_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._policy.upload_seconds):
                return await self._gathered(receive)
        except TimeoutError:
            raise Problem(
                408, "the request did not arrive in time; send it again", "upload_timeout"
            ) from None

    async def _gathered(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Problem(400, "the client went away", "disconnected")
            body += message.get("body", b"")
            if len(body) > self._policy.max_bytes:
                raise self._too_large()
            if not message.get("more_body"):
                return bytes(body)

    def _too_large(self) -> Problem:
        limit = self._policy.max_bytes / 2**20
        return Problem(
            413, f"the request is over {limit:.1f} MiB; send smaller images, or set GSCO_API_MAX_BYTES",
            "request_too_large",
        )  # fmt: skip


def replayed(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body that was read already, and then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


async def refuse(problem: Problem, send: Send) -> None:
    """Answer with an error."""
    content = json.dumps(problem.body()).encode()
    headers = {
        "content-type": "application/json", "content-length": str(len(content)), "connection": "close",
        **problem.headers,
    }  # fmt: skip
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for header, value in scope["headers"] if header == name), "")
