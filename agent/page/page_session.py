"""Page authentication: API-key login, or a per-browser cookie on localhost.

It stands before the whole application, so that nothing of it answers to strangers: neither the page, nor
its uploads, nor its reports.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from ..auth import Users, names_this_machine
from ..conversation_store import BROWSER
from ..origin import header, is_foreign
from .fragments import login

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "gsco_visitor"
SESSION = 12 * 3600
"""Seconds after which a user's key is asked for again."""
VISIT = 365 * 24 * 3600
"""Seconds for which a browser without a key finds its conversations again."""
_FORM = 4096
_FORM_SECONDS = 10.0
_TOKEN = re.compile("[0-9a-f]{48}")
_HEADERS = (
    # Gradio's page has inline scripts and compiles its templates; nothing is fetched from anywhere else.
    (b"content-security-policy", b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
     b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
     b"media-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
     b"form-action 'self'; frame-ancestors 'none'"),
    # Not no-referrer: a form would then be sent with the origin "null", which counts as foreign.
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)  # fmt: skip


class PageSession:
    """Lets visitors in and names them in ``scope["state"]["user"]``.

    Args:
        app: what they come for.
        users: who has keys; without any, this machine only is served.
    """

    def __init__(self, app: ASGIApp, users: Users) -> None:
        self._app = app
        self._users = users
        self._inside: dict[str, tuple[str, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        if is_foreign(scope):
            text = "This request comes from another page. A reverse proxy must pass the Host header on."
            await _answer(_guarded(send), 403, text, "text/plain", {"connection": "close"})
            return
        if self._users:
            await self._by_key(scope, receive, _guarded(send))
        else:
            await self._by_browser(scope, receive, _guarded(send))

    async def _by_browser(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Each browser is a user, known by a cookie that it gets with the page."""
        if not names_this_machine(header(scope, b"host")):
            text = "Without keys only this machine is served, as localhost or 127.0.0.1; see GSCO_API_KEYS."
            await _answer(send, 403, text, "text/plain")
            return
        token = _cookie(scope)
        known = _TOKEN.fullmatch(token) is not None
        if not known:
            token = secrets.token_hex(24)
        scope.setdefault("state", {})["user"] = f"{BROWSER}{token}"
        await self._app(scope, receive, send if known else _setting(send, token, VISIT))

    async def _by_key(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path == "/login":
            await self._login(scope, receive, send)
            return
        user, until = self._inside.get(_cookie(scope), ("", 0.0))
        if until > time.monotonic():
            scope.setdefault("state", {})["user"] = user
            await self._app(scope, receive, send)
        elif scope["method"] == "GET" and path in ("", "/"):
            await _answer(send, 303, "", "text/plain", {"location": "login"})
        else:
            await _answer(send, 401, "Load the page again and enter your key.", "text/plain")

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await _answer(send, 200, login())
            return
        form = parse_qs((await _body(receive)).decode("utf-8", "replace"))
        user = self._users.owner(form.get("key", [""])[0].strip())
        if user is None:
            await asyncio.sleep(0.5)
            await _answer(send, 401, login(wrong=True))
            return
        now, token = time.monotonic(), secrets.token_hex(24)
        self._inside = {one: held for one, held in self._inside.items() if held[1] > now}
        self._inside[token] = (user, now + SESSION)
        await _answer(_setting(send, token, SESSION), 303, "", "text/plain", {"location": "./"})


def _guarded(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            # Gradio lets pages at other ports of this machine read answers with the reader's cookie.
            given = message.get("headers", ())
            own = (pair for pair in given if not pair[0].lower().startswith(b"access-control-"))
            message["headers"] = [*own, *_HEADERS]
        await send(message)

    return with_headers


def _setting(send: Send, token: str, seconds: int) -> Send:
    cookie = f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}"

    async def with_cookie(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"set-cookie", cookie.encode())]
        await send(message)

    return with_cookie


async def _answer(
    send: Send, status: int, text: str, kind: str = "text/html", headers: Mapping[str, str] | None = None
) -> None:
    body = text.encode()
    given = {
        "content-type": f"{kind}; charset=utf-8", "content-length": str(len(body)),
        "cache-control": "no-store", **(headers or {}),
    }  # fmt: skip
    pairs = [(name.encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive) -> bytes:
    """A short form; what is longer is no form of this page's."""
    body = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(_FORM_SECONDS):
            while len(body) <= _FORM:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    return body
    return b""


def _cookie(scope: Scope) -> str:
    try:
        found = SimpleCookie(header(scope, b"cookie")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""
