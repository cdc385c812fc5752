import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from .servers import HOW, URL, missing, running


@pytest.fixture(scope="session")
def weaviate_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], str]]:
    """``weaviate_url(COLLECTION, OPTIONS)``: the address of a collection on a real server."""
    if given := os.environ.get(URL):
        base, _, options = given.partition("?")
        yield lambda name, more="": f"{base.rstrip('/')}/{name}?{options}{more}"
        return
    if missing():
        pytest.skip(HOW)
    with running(tmp_path_factory.mktemp("weaviate")) as server:
        yield server.address


@pytest.fixture
def fresh(weaviate_url: Callable[[str, str], str]) -> Iterator[str]:
    """The address of a collection that is not there yet; it is removed afterwards."""
    address = weaviate_url(f"Test{uuid.uuid4().hex[:12]}", "")
    yield address
    remove(address)


def remove(address: str) -> None:
    """Remove a collection."""
    import weaviate
    from gsco.tools.stores.weaviate import parse_address

    parsed = parse_address(address)
    host = parsed.hosts[0]
    with weaviate.connect_to_local(host.name, host.port, host.grpc_port, skip_init_checks=True) as client:
        client.collections.delete(parsed.collection)
