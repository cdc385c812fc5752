"""Uploads to the page and previews of one's own, at the addresses that Gradio's page uses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from ...errors import GscoError, ImageError
from ..user_share import TooManyRequests, UserShare
from .uploads import MOST

if TYPE_CHECKING:
    from .upload_store import UploadStore, UploadWriter

SECONDS = 300.0
"""An upload must have arrived whole by then."""
PAUSE = 20.0
"""Seconds between two pieces of an upload, at most."""
AT_ONCE = 4
"""Uploads of one user that may arrive at once."""
_BOUNDARY = re.compile(r"multipart/form-data\s*;.*\bboundary=\"?([\w'()+,./:=? -]{1,70}?)\"?\s*(?:;|$)", re.I)
_PREVIEWS = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
"""Kinds of image that a browser gets back to show beside the question."""


def upload_routes(uploads: UploadStore) -> APIRouter:
    """Make the routes over one store of uploads."""
    router, share = APIRouter(), UserShare(AT_ONCE)

    @router.post("/gradio_api/upload")
    async def upload(request: Request) -> Response:
        found = _BOUNDARY.match(request.headers.get("content-type", ""))
        if found is None:
            return _refused(400, "an upload is a form of files")
        user = request.state.user
        try:
            with share.turn(user):
                async with asyncio.timeout(SECONDS):
                    ids = await _received(request, found[1], lambda: uploads.receive(user))
        except TooManyRequests as error:
            return _refused(429, str(error))
        except TimeoutError:
            return _refused(408, "the upload did not arrive in time; send it again")
        except ImageError as error:
            return _refused(413, str(error))
        except GscoError as error:
            return _refused(503, str(error))
        except _Malformed as error:
            return _refused(400, str(error))
        return JSONResponse(ids)

    @router.get("/gradio_api/upload_progress")
    async def progress() -> Response:
        """The page's bar of progress is not served: how far an upload is, the browser knows itself."""
        return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    @router.get("/gradio_api/file={id}")
    async def own(id: str, request: Request) -> Response:
        try:
            data = await asyncio.to_thread(uploads.read, request.state.user, id)
        except GscoError as error:
            return PlainTextResponse(str(error), 404)
        kind = next((kind for magic, kind in _PREVIEWS if data.startswith(magic)), None)
        if kind is None:
            return PlainTextResponse("only PNG and JPEG uploads can be looked at", 404)
        return Response(data, media_type=kind, headers={"cache-control": "no-store"})

    return router


class _Malformed(Exception):
    """The form cannot be read, or has too many files."""


async def _received(
    request: Request, boundary: str, opened: Callable[[], AbstractContextManager[UploadWriter]]
) -> list[str]:
    """Write the files of a form and return their ids; where one fails, none is kept."""
    with ExitStack() as files:
        form = _Form(boundary, lambda: files.enter_context(opened()))
        async for piece in _pieces(request):
            await asyncio.to_thread(form.feed, piece)
        return form.ids()


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    arriving = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(PAUSE):
                yield await anext(arriving)
        except StopAsyncIteration:
            return


class _Form:
    """A multipart form: each part is a file; what a part says of itself is left unread.

    Args:
        boundary: between the parts.
        opened: opens a new upload.
    """

    def __init__(self, boundary: str, opened: Callable[[], UploadWriter]) -> None:
        from python_multipart.multipart import MultipartParser

        self._parser = MultipartParser(
            boundary.encode("latin-1"),
            {"on_part_begin": self._begin, "on_part_data": self._data, "on_end": self._end},
        )
        self._opened = opened
        self._writers: list[UploadWriter] = []
        self._complete = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        from python_multipart.exceptions import MultipartParseError

        try:
            self._parser.write(data)
        except MultipartParseError:
            raise _Malformed("the form cannot be read; upload the image again") from None

    def ids(self) -> list[str]:
        """The ids of the files, once all of them have arrived."""
        if not self._complete or not self._writers:
            raise _Malformed("the form is cut off or empty; upload the image again")
        return [writer.id for writer in self._writers]

    def _begin(self) -> None:
        if len(self._writers) >= MOST:
            raise _Malformed(f"a question may have at most {MOST} images")
        self._writers.append(self._opened())

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._writers[-1].write(data[start:end])

    def _end(self) -> None:
        self._complete = True


def _refused(status: int, message: str) -> Response:
    return PlainTextResponse(message, status, headers={"connection": "close"})
