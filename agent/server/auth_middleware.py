"""What is checked before the application sees a request: host, origin, key, crowd, size and time.

It stands before the application so that a request without a key is not read, and so that no more than
``held_bytes`` of requests is held in memory.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from ..auth import user_by_key
from ..http_messages import RequestRefused, answer, header, replayed
from ..user_share import TooManyRequests, UserShare
from . import docs_page
from .errors import ApiError
from .policy import ServerPolicy

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = frozenset({"/healthz", "/readyz", "/openapi.json", *docs_page.PATHS})
"""What anybody may ask: it tells nothing of anybody."""
LEAVING = 1.0
"""Seconds that a stream gets to close once its client has left."""


class AuthMiddleware:
    """Lets requests through that the policy allows, with their user in ``scope["state"]``.

    Bodies arrive before a request counts as one that is worked on, so that slow ones keep nobody waiting.
    A client that leaves before it is answered stops its work, except where that would leave half a change.
    """

    def __init__(self, app: ASGIApp, policy: ServerPolicy) -> None:
        self._app = app
        self._policy = policy
        self._inside = 0
        self._held = 0
        alone = not policy.users
        self._work = UserShare(policy.at_once if alone else policy.user_at_once)
        self._bodies = UserShare(policy.bodies if alone else policy.user_bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            public = scope["path"] in OPEN
            user = user_by_key(scope, self._policy.users, public=public)
            if public:
                await self._app(scope, receive, send)
                return
            scope.setdefault("state", {})["user"] = user
            await self._admitted(scope, receive, send, user)
        except RequestRefused as refused:
            await refuse(ApiError(refused.status, str(refused), refused.code), send)
        except ApiError as problem:
            await refuse(problem, send)

    async def _admitted(self, scope: Scope, receive: Receive, send: Send, user: str) -> None:
        self._check_crowd()
        body = bytearray()
        try:
            with self._bodies.turn(user):
                await self._read(scope, receive, body)
            self._check_crowd()
            with self._work.turn(user):
                self._inside += 1
                try:
                    await self._answered(scope, bytes(body), receive, send)
                finally:
                    self._inside -= 1
        except TooManyRequests as error:
            raise ApiError(429, str(error), "too_many_requests") from None
        finally:
            self._held -= len(body)

    async def _answered(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Run the application; where the client leaves first, end it."""
        left, complete = asyncio.Event(), asyncio.Event()

        async def gone() -> Message:
            await left.wait()
            return {"type": "http.disconnect"}

        async def noting(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                complete.set()

        work = asyncio.ensure_future(self._app(scope, replayed(body, gone), noting))
        watching = asyncio.ensure_future(_left(receive, left))
        try:
            await asyncio.wait({work, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not complete.is_set() and stops_with_client(scope):
                # A stream notices by itself and closes in order.
                await asyncio.wait({work}, timeout=LEAVING)
                if work.cancel():
                    await asyncio.gather(work, return_exceptions=True)
                    return
            await work
        finally:
            watching.cancel()
            work.cancel()

    def _check_crowd(self) -> None:
        if self._inside >= self._policy.at_once:
            raise ApiError(
                429,
                f"{self._inside} requests are running already; try again in a moment",
                "too_many_requests",
            )

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        """Read the whole body, within the limits on size and time; what is held so far counts for all."""
        declared = header(scope, b"content-length")
        if declared.isdigit() and int(declared) > self._policy.max_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._policy.upload_seconds):
                while await self._piece(receive, body):
                    pass
        except TimeoutError:
            raise ApiError(
                408, "the request did not arrive in time; send it again", "upload_timeout"
            ) from None

    async def _piece(self, receive: Receive, body: bytearray) -> bool:
        """Take the next piece of a body; False once it is whole."""
        async with asyncio.timeout(self._policy.pause_seconds):
            message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError(400, "the client closed the connection", "disconnected")
        piece = message.get("body", b"")
        if len(body) + len(piece) > self._policy.max_bytes:
            raise self._too_large()
        if self._held + len(piece) > self._policy.held_bytes:
            raise ApiError(
                429, "too many requests are arriving at once; try again in a moment", "too_many_requests"
            )
        self._held += len(piece)
        body += piece
        return bool(message.get("more_body"))

    def _too_large(self) -> ApiError:
        limit = self._policy.max_bytes / 2**20
        return ApiError(
            413,
            f"the request is over {limit:.1f} MiB; send smaller images, or set GSCO_API_MAX_BYTES",
            "request_too_large",
        )


def stops_with_client(scope: Scope) -> bool:
    """Whether a request ends where its client leaves: not where it decides or deletes."""
    return scope["method"] != "DELETE" and not scope["path"].endswith("/decision")


async def _left(receive: Receive, left: asyncio.Event) -> None:
    """Wait for the client to leave."""
    while (await receive())["type"] != "http.disconnect":
        pass
    left.set()


async def refuse(problem: ApiError, send: Send) -> None:
    """Answer with an error."""
    headers = {"connection": "close", **problem.headers}
    await answer(send, problem.status, json.dumps(problem.body()), "application/json", headers)
