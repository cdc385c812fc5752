"""``gsco mcp``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def mcp(
    images: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Let agents add files below this folder by path; repeatable."),
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
    import asyncio

    from ..api import GSCo
    from ..configuration import settings_from
    from ..image_folders import ImageFolders

    folders, settings = ImageFolders(images or ()), settings_from()
    with GSCo.from_settings(settings) as gsco:
        if not http:
            from ..mcp import serve_stdio
            from ..shutdown import terminated_by

            with terminated_by(gsco.close):
                asyncio.run(serve_stdio(gsco, folders))
            return
        from ..auth import Users, check_reachable
        from ..mcp import PATH, http_app

        users = Users.parse(settings.api_keys.get_secret_value())
        check_reachable(host, users)
        app = http_app(gsco, host, users, settings.max_image_bytes, folders)
        from ..shutdown import run_server

        typer.echo(f"listening at http://{host}:{port}{PATH}", err=True)
        run_server(app, seconds=settings.shutdown_seconds, host=host, port=port)
