import base64
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import uvicorn
from gsco import GSCo
from gsco.agent.auth import Users
from gsco.agent.server.app import create_app
from gsco.agent.server.policy import ServerPolicy
from PIL import Image

KEYS = "anna:key-of-anna-0123456789,ben:key-of-ben-0123456789"


def served(gsco: GSCo, policy: ServerPolicy | None = None) -> AbstractContextManager[str]:
    """The address of a real server on a free port of this machine."""
    return running(lambda: create_app(gsco, policy))


@contextmanager
def running(make_app: Callable[[], Any]) -> Iterator[str]:
    """The address of an application in a real server, which is made in the server's thread."""
    config = uvicorn.Config(
        make_app, factory=True, host="127.0.0.1", port=0, log_config=None, lifespan="on", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
        assert thread.is_alive(), "the server ended"
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="session")
def make_gsco(tmp_path_factory, cards, specialist_folders, bank, generalist_folder) -> Callable[..., GSCo]:
    """Make a small installation whose generalist runs the fixed protocol before it answers."""

    def make(**settings) -> GSCo:
        given = {
            "home": tmp_path_factory.mktemp("home"),
            "tasks": cards,
            "specialists": specialist_folders,
            "case_store": str(bank),
            "generalist_model": str(generalist_folder),
            "neighbours": 4,
            "tool_calls": "none",
            **settings,
        }
        return GSCo.from_settings(**given)

    return make


@pytest.fixture(scope="session")
def gsco(make_gsco) -> Iterator[GSCo]:
    with make_gsco() as made:
        yield made


@pytest.fixture(scope="session")
def address(gsco) -> Iterator[str]:
    """A server that asks for no keys."""
    with served(gsco) as address:
        yield address


@pytest.fixture(scope="session")
def bundled(tmp_path_factory) -> Iterator[GSCo]:
    """What comes with gsco."""
    with GSCo.from_settings(home=tmp_path_factory.mktemp("home"), torch_threads=1) as made:
        yield made


@pytest.fixture(scope="session")
def bundled_address(bundled) -> Iterator[str]:
    """A server of what comes with gsco."""
    with served(bundled) as address:
        yield address


@pytest.fixture(scope="session")
def locked(gsco) -> Iterator[str]:
    """A server with two users."""
    with served(gsco, ServerPolicy(users=Users.parse(KEYS))) as address:
        yield address


def data_uri(image: Image.Image, kind: str = "PNG") -> str:
    """An image as clients send it."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def asked(text: str, *images: Image.Image) -> dict:
    """A user's message."""
    shown = [{"type": "image_url", "image_url": {"url": data_uri(image)}} for image in images]
    return {"role": "user", "content": [{"type": "text", "text": text}, *shown]}
