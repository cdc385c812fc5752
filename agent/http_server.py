"""Starts the page, the API server and MCP over HTTP, each with the same checks, logs and limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .auth import Users, check_reachable
from .logs import log_to_stderr
from .shutdown import run_server

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from ..settings import Settings
    from .api import GSCo


def serve_http(
    settings: Settings,
    application: Callable[[GSCo, Users], ASGIApp],
    *,
    host: str,
    port: int,
    extra: str,
    opened: Callable[[str], object] | None = None,
) -> None:
    """Serve an application until it is interrupted.

    Args:
        settings: of the installation and of the server.
        application: makes it, importing what it needs.
        host: where it listens.
        port: 0 takes a free one.
        extra: of the package, which installs what it needs; its log is named so too.
        opened: told the address once it listens there.

    Raises:
        ConfigurationError: packages are missing, a key is wrong, or the host is open to others without keys.
    """
    from .api import GSCo

    users = Users.from_settings(settings)
    check_reachable(host, users)
    log_to_stderr(f"gsco.{extra}", "uvicorn")
    with GSCo.from_settings(settings) as gsco:
        try:
            from .connections import allow_open_files, server_options

            app = application(gsco, users)
        except ImportError as error:
            raise ConfigurationError(f"packages are missing: pip install 'gsco[{extra}]'") from error
        allow_open_files()
        options = {"host": host, "port": port, "lifespan": "on", **server_options()}
        run_server(app, seconds=settings.shutdown_seconds, opened=opened, **options)
