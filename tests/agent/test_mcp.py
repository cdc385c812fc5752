"""The MCP server, driven by the official client over both of its transports."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gsco import GSCo
from gsco.agent.mcp import Service, mcp_server
from gsco.models.mini.samples import Sample, samples
from mcp import Client
from mcp.client.stdio import StdioServerParameters

TOOLS = ["add_image", "classify", "retrieve_cases", "diagnose", "list_tasks"]
KEYS = {"ann": "ann-has-a-long-key-0", "bob": "bob-has-a-long-key-0"}


@pytest.fixture(scope="module")
def sample() -> Sample:
    return samples("chest_xray")[3]


def data(sample: Sample) -> dict[str, str]:
    return {"data": base64.b64encode(sample.path.read_bytes()).decode()}


@pytest.fixture(scope="module")
def gsco(tmp_path_factory) -> Iterator[GSCo]:
    with GSCo.from_settings(home=tmp_path_factory.mktemp("home"), threads=1) as made:
        yield made


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GSCO_")}
    return {**kept, "GSCO_HOME": str(home), "GSCO_THREADS": "1"}


async def consulted(client: Client, sample: Sample) -> None:
    listed = (await client.list_tools()).tools
    assert [tool.name for tool in listed] == TOOLS
    assert all(tool.annotations is not None and not tool.annotations.open_world_hint for tool in listed)
    added = await client.call_tool("add_image", data(sample))
    ref = added.structured_content["records"][0]
    id = added.content[0].text.split(",")[0]
    assert id == f"img-{ref['sha256'][:12]}"
    found = await client.call_tool("diagnose", {"image": id, "task": "chest_xray"})
    [diagnosis] = found.structured_content["records"]
    assert not found.is_error and diagnosis["label"] == sample.label
    assert found.content[0].text.startswith(f"diagnosis: {sample.label}")
    latest = await client.call_tool("classify", {"task": "chest_xray"})
    assert len(latest.structured_content["records"]) == 4
    for wrong in (
        {"image": str(sample.path), "task": "chest_xray"},
        {"image": id},
        {"image": id, "task": "x"},
    ):
        refused = await client.call_tool("classify", wrong)
        assert refused.is_error and refused.content[0].text.startswith("wrong arguments")
    assert (await client.call_tool("erase", {})).is_error


def test_over_standard_input_and_output(sample, tmp_path):
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "gsco.agent.cli", "mcp"], env=environment(tmp_path)
    )

    async def talk() -> None:
        async with Client(server) as client:
            await consulted(client, sample)

    asyncio.run(talk())


def test_in_this_process(gsco, sample):
    async def talk() -> None:
        async with Client(mcp_server(gsco)) as client:
            await consulted(client, sample)

    asyncio.run(talk())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"data": "/etc/passwd"}, "not base64"),
        ({"data": "https://example.org/x.png"}, "not base64"),
        ({"path": "/etc/passwd"}, "base64"),
        ({"data": 7}, "base64"),
        ({}, "base64"),
        ({"data": base64.b64encode(b"no image").decode()}, "image"),
        ({"data": ""}, "empty"),
    ],
)
def test_what_is_no_image_is_refused(gsco, arguments, words):
    said = asyncio.run(Service(gsco).call("ann", "add_image", arguments))
    assert said.failed and words in said.text


def test_users_ask_about_their_own_images_only(gsco, sample):
    async def talk() -> None:
        service = Service(gsco)
        id = (await service.call("ann", "add_image", data(sample))).text.split(",")[0]
        asked = {"image": id, "task": "chest_xray"}
        assert not (await service.call("ann", "classify", asked)).failed
        refused = await service.call("bob", "classify", asked)
        assert refused.failed and "no image" in refused.text

    asyncio.run(talk())


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keys = ",".join(f"{name}:{key}" for name, key in KEYS.items())
    process = subprocess.Popen(
        [sys.executable, "-m", "gsco.agent.cli", "mcp", "--http", "--port", str(port)],
        env={**environment(tmp_path_factory.mktemp("home")), "GSCO_API_KEYS": keys},
    )
    url, end = f"http://127.0.0.1:{port}/mcp", time.monotonic() + 120
    while True:
        try:
            httpx.get(url, timeout=5)
            break
        except httpx.HTTPError:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.2)
    yield url
    process.terminate()
    process.wait(30)


def test_over_http_with_a_key(server, sample):
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    async def talk() -> None:
        headers = {"Authorization": f"Bearer {KEYS['ann']}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=120) as http,
            Client(streamable_http_client(server, http_client=http)) as client,
        ):
            await consulted(client, sample)

    asyncio.run(talk())


def test_over_http_without_a_key_or_from_a_strange_page(server):
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic ann"}):
        assert httpx.post(server, json=call, headers=headers).status_code == 401
    opened = {"Authorization": f"Bearer {KEYS['ann']}", "Accept": "application/json, text/event-stream"}
    strange = httpx.post(
        server, json=call, headers={**opened, "Host": "evil.example", "Origin": "http://evil"}
    )
    assert strange.status_code in (403, 421)


def test_other_machines_need_keys(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "gsco.agent.cli", "mcp", "--http", "--host", "0.0.0.0"],
        env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 2 and "GSCO_API_KEYS" in run.stderr
