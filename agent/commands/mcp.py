"""``gsco mcp``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def mcp(
    images: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Let agents add files below this folder by path; repeatable."),
    ] = None,
    http: Annotated[bool, typer.Option("--http", help="Serve over HTTP instead of standard input.")] = False,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Address to listen at, with --http.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="Port, with --http.")] = 8723,
) -> None:
    """Serve the tools to other agents (Model Context Protocol).

    An agent that starts its servers itself runs `gsco mcp`; others connect to http://HOST:PORT/mcp of
    `gsco mcp --http`. Other machines can connect only if GSCO_API_KEYS is set.
    No file is read that does not lie below a folder named with --images.
    """
    from ..configuration import settings_from
    from ..image_folders import ImageFolders

    folders, settings = ImageFolders(images or ()), settings_from()
    if http:
        from ..mcp import serve_mcp

        return serve_mcp(settings, folders, host=host, port=port)
    import asyncio

    from ..api import GSCo
    from ..mcp import serve_stdio
    from ..shutdown import terminated_by

    with GSCo.from_settings(settings) as gsco, terminated_by(gsco.close):
        asyncio.run(serve_stdio(gsco, folders))
    return None
