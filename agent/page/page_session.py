"""Page authentication as HTTP: the login form, the cookie, and what browsers are told to refuse.

It stands before the whole application, so that nothing of it answers to strangers: neither the page, nor
its uploads, nor its reports. Who the user is stands in ``agent.auth``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from ..auth import COOKIE, BrowserSessions, Users, check_origin
from ..http_messages import RequestRefused, answer, answer_refusal, read_body
from .fragments import login

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["COOKIE", "PageSession"]

_FORM = 4096
_FORM_SECONDS = 10.0
_NO_STORE = {"cache-control": "no-store"}
_HEADERS = (
    # Gradio's page has inline scripts and compiles its templates; nothing is fetched from anywhere else.
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        b"media-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
        b"form-action 'self'; frame-ancestors 'none'",
    ),
    # Not no-referrer: a form would then be sent with the origin "null", which counts as foreign.
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class PageSession:
    """Lets visitors in and names them in ``scope["state"]["user"]``.

    Args:
        app: what they come for.
        users: who has keys; without any, this machine only is served.
    """

    def __init__(self, app: ASGIApp, users: Users) -> None:
        self._app = app
        self._sessions = BrowserSessions(users)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        path, send = scope["path"].removeprefix(scope.get("root_path", "")), _guarded(send)
        try:
            if path == "/login" and self._sessions.users:
                check_origin(scope)
                await self._login(scope, receive, send)
                return
            user, cookie = self._sessions.user(scope)
        except RequestRefused as refused:
            if refused.status == 401 and scope["method"] == "GET" and path in ("", "/"):
                await answer(send, 303, "", headers={"location": "login", **_NO_STORE})
            else:
                await answer_refusal(send, refused)
            return
        scope.setdefault("state", {})["user"] = user
        await self._app(scope, receive, _setting(send, cookie) if cookie else send)

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await answer(send, 200, login(), "text/html", _NO_STORE)
            return
        try:
            form = parse_qs((await read_body(receive, _FORM, _FORM_SECONDS)).decode("utf-8", "replace"))
        except RequestRefused:
            form = {}
        cookie = self._sessions.log_in(form.get("key", [""])[0])
        if cookie is None:
            await asyncio.sleep(0.5)
            await answer(send, 401, login(wrong=True), "text/html", _NO_STORE)
        else:
            await answer(_setting(send, cookie), 303, "", headers={"location": "./", **_NO_STORE})


def _guarded(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            # Gradio lets pages at other ports of this machine read answers with the reader's cookie.
            given = message.get("headers", ())
            own = (pair for pair in given if not pair[0].lower().startswith(b"access-control-"))
            message["headers"] = [*own, *_HEADERS]
        await send(message)

    return with_headers


def _setting(send: Send, cookie: str) -> Send:
    async def with_cookie(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"set-cookie", cookie.encode())]
        await send(message)

    return with_cookie
