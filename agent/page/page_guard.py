"""What of Gradio's interface the page's visitors reach, and in what form.

Gradio answers at some sixty addresses, most of which this page does not use, and takes a file reference
from a client in any field of any event. So only the listed addresses are handed on, and each file reference
in an event is replaced by the id of an upload before Gradio reads it: Gradio then sees no file at all.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from ..http_messages import RequestRefused, answer_refusal, read_body, replayed
from .file_references import ForeignReference, with_upload_ids

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

MAX_BODY = 2**20
"""Bytes of an event: the words of a question, and ids."""
SECONDS = 20.0
"""An event must have arrived whole by then."""
_SESSIONS = 20_000
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_READ = re.compile(
    r"/(|config/?|theme\.css|favicon\.ico|robots\.txt|(assets|static|svelte)/[\w./+-]+"
    r"|reports/[\w.@+-]+/\d+\.(json|html|pdf))"
    r"|/gradio_api/(info/?|app_id/?|startup-events|theme\.css|upload_progress|queue/data"
    r"|file=upload-[0-9a-f]{32}|heartbeat/[A-Za-z0-9_-]{1,64})",
    re.ASCII,
)
_EVENTS = frozenset({"/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset"})
_UPLOAD = "/gradio_api/upload"


class PageGuard:
    """Hands on what the page uses, for the user in ``scope["state"]["user"]``; everything else is 404.

    Args:
        app: the page.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._sessions: OrderedDict[str, str] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            receive = await self._checked(scope, receive)
        except RequestRefused as refused:
            await answer_refusal(send, refused)
            return
        await self._app(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        reads = scope["method"] in ("GET", "HEAD")
        if reads and _READ.fullmatch(path) and ".." not in path:
            self._check_session(scope, _session_read(scope, path))
            return receive
        if scope["method"] == "POST" and path == _UPLOAD:
            return receive
        if scope["method"] == "POST" and path in _EVENTS:
            event = _parsed(await read_body(receive, MAX_BODY, SECONDS))
            self._check_session(scope, event.get("session_hash"))
            try:
                body = json.dumps(with_upload_ids(event)).encode()
            except ForeignReference as error:
                raise RequestRefused(400, str(error)) from None
            except RecursionError:
                raise RequestRefused(400, "the event is nested too deeply") from None
            given = [
                one for one in scope["headers"] if one[0] not in (b"content-length", b"transfer-encoding")
            ]
            scope["headers"] = [*given, (b"content-length", str(len(body)).encode())]
            return replayed(body, receive)
        raise RequestRefused(404, "there is no such address")

    def _check_session(self, scope: Scope, session: object) -> None:
        """A session of Gradio's belongs to the user who began it: its events carry what was answered."""
        if session is None:
            return
        if not isinstance(session, str) or not _SESSION.fullmatch(session):
            raise RequestRefused(400, "the session name is not valid")
        user = scope["state"]["user"]
        if self._sessions.setdefault(session, user) != user:
            raise RequestRefused(403, "the page session belongs to another user; load the page again")
        self._sessions.move_to_end(session)
        while len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)


def _parsed(body: bytes) -> dict[str, object]:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise RequestRefused(400, "an event must be a JSON object")
    return event


def _session_read(scope: Scope, path: str) -> str | None:
    if path.startswith("/gradio_api/heartbeat/"):
        return path.rpartition("/")[2]
    given = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("session_hash", [])
    if len(given) > 1:
        raise RequestRefused(400, "a request belongs to one session")
    return given[0] if given else None
