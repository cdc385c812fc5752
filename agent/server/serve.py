"""Runs the server until it is interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ConfigurationError
from ..auth import check_reachable
from ..logs import log_to_stderr
from ..shutdown import run_server

if TYPE_CHECKING:
    from ...settings import Settings


def serve_api(settings: Settings, *, host: str, port: int) -> None:
    """Serve the agent over HTTP; what is logged names routes, never what was asked.

    Args:
        settings: of the installation and of the server.
        host: where it listens.
        port: 0 takes a free one.

    Raises:
        ConfigurationError: packages are missing, a key is wrong, or the host is open to others without keys.
    """
    try:
        import uvicorn  # noqa: F401

        from ..connections import allow_open_files, server_options
        from .app import create_app
        from .policy import ServerPolicy
    except ImportError as error:
        raise ConfigurationError("the server needs more packages: pip install 'gsco[server]'") from error
    from ..api import GSCo

    policy = ServerPolicy.from_settings(settings)
    check_reachable(host, policy.users)
    log_to_stderr("gsco.server", "uvicorn")
    with GSCo.from_settings(settings) as gsco:
        allow_open_files()
        run_server(
            create_app(gsco, policy),
            seconds=settings.shutdown_seconds,
            host=host,
            port=port,
            lifespan="on",
            **server_options(),
        )
