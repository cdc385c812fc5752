"""Reports for taking away: each at an address of its own, made when it is asked for and kept nowhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import PlainTextResponse

from ...errors import GscoError
from ..reports.export import case_report
from .session import diagnoses_of

if TYPE_CHECKING:
    from ..api import GSCo

_TYPES = {"json": "application/json", "html": "text/html; charset=utf-8", "pdf": "application/pdf"}
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$")]


def reports(gsco: GSCo) -> APIRouter:
    """Make the routes over one installation."""
    router = APIRouter()

    @router.get("/reports/{thread}/{number}.{kind}")
    async def report(
        request: Request, thread: Name, number: int, kind: Literal["json", "html", "pdf"]
    ) -> Response:
        try:
            found = diagnoses_of(await gsco.consult(thread, user=request.state.user).aexport())
            if not 0 <= number < len(found):
                return PlainTextResponse("There is no such diagnosis in this conversation.", 404)
            made = await asyncio.to_thread(case_report, gsco, found[number])
            content = await asyncio.to_thread(getattr(made, kind))
        except GscoError as error:
            return PlainTextResponse(str(error), 404)
        name = f"{found[number].case_id}-{found[number].task}.{kind}".encode("ascii", "replace").decode()
        safe = "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in name)
        headers = {"content-disposition": f'attachment; filename="{safe}"', "cache-control": "no-store"}
        return Response(content, media_type=_TYPES[kind], headers=headers)

    return router
