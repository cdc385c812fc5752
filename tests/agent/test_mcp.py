"""The MCP server, driven by the official client over both of its transports."""

from __future__ import annotations

import asyncio
import base64
import io
import json
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
from gsco.agent.image_folders import ImageFolders
from gsco.agent.mcp import Service, mcp_server
from gsco.case import Diagnosis
from gsco.errors import ConfigurationError
from gsco.models.mini.samples import Sample, samples
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters
from PIL import Image

TOOLS = ["add_image", "classify", "retrieve_cases", "diagnose", "list_tasks"]
KEYS = {"ann": "ann-has-a-long-key-0", "bob": "bob-has-a-long-key-0"}


@pytest.fixture(scope="module")
def sample() -> Sample:
    return samples("chest_xray")[3]


def data(sample: Sample) -> dict[str, str]:
    return {"data": base64.b64encode(sample.path.read_bytes()).decode()}


@pytest.fixture(scope="module")
def gsco(tmp_path_factory) -> Iterator[GSCo]:
    with GSCo.from_settings(home=tmp_path_factory.mktemp("home"), torch_threads=1) as made:
        yield made


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GSCO_")}
    return {**kept, "GSCO_HOME": str(home), "GSCO_TORCH_THREADS": "1"}


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


@pytest.fixture
def folder(sample, tmp_path) -> Path:
    """A folder with two images, beside a secret one; and links that lead out."""
    opened, secret = tmp_path / "opened", tmp_path / "secret"
    for place in (opened / "study 1", secret):
        place.mkdir(parents=True)
        (place / "röntgen.jpg").write_bytes(sample.path.read_bytes())
    (opened / "IM0001").write_bytes(sample.path.read_bytes())
    (opened / ".hidden.jpg").write_bytes(sample.path.read_bytes())
    (opened / "notes.txt").write_text("no image", encoding="utf-8")
    (opened / "link.jpg").symlink_to(secret / "röntgen.jpg")
    (opened / "out").symlink_to(secret)
    return opened


def test_files_below_an_open_folder(gsco, sample, folder):
    async def talk() -> None:
        async with Client(mcp_server(gsco, ImageFolders([folder]))) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            assert names[:2] == ["add_image", "list_images"]
            listed = (await client.call_tool("list_images", {})).content[0].text.splitlines()
            assert listed == ["IM0001", "link.jpg", "study 1/röntgen.jpg"]
            below = await client.call_tool("list_images", {"below": "study"})
            assert below.content[0].text == "study 1/röntgen.jpg"
            paths = ("IM0001", "study 1/röntgen.jpg", str(folder / "IM0001"), "study 1/../IM0001")
            added = [await client.call_tool("add_image", {"path": path}) for path in paths]
            by_data = await client.call_tool("add_image", data(sample))
            assert {each.content[0].text for each in added} == {by_data.content[0].text}
            found = await client.call_tool("diagnose", {"task": "chest_xray"})
            assert found.structured_content["records"][0]["label"] == sample.label
            for path in (
                "../secret/röntgen.jpg",
                str(folder.parent / "secret" / "röntgen.jpg"),
                "link.jpg",
                "out/röntgen.jpg",
                "/etc/passwd",
                "nothing.png",
                "study 1",
                "",
                "a\0b",
                "https://a.org/x.png",
            ):
                refused = await client.call_tool("add_image", {"path": path})
                assert refused.is_error and "no such file" in refused.content[0].text, path
            both = await client.call_tool("add_image", {"path": "IM0001", **data(sample)})
            assert both.is_error and "nothing else" in both.content[0].text

    asyncio.run(talk())


def test_pictures_and_records_are_resources(gsco, sample):
    async def talk() -> None:
        async with Client(mcp_server(gsco)) as client:
            assert not (await client.list_resources()).resources
            added = await client.call_tool("add_image", data(sample))
            id = added.content[0].text.split(",")[0]
            await client.call_tool("diagnose", {"image": id, "task": "chest_xray"})
            uris = [str(each.uri) for each in (await client.list_resources()).resources]
            assert uris == [f"gsco://images/{id}", f"gsco://records/{id}"]
            templates = (await client.list_resource_templates()).resource_templates
            assert [each.uri_template for each in templates] == ["gsco://images/{id}", "gsco://records/{id}"]
            [picture] = (await client.read_resource(uris[0])).contents
            with (
                Image.open(io.BytesIO(base64.b64decode(picture.blob))) as shown,
                Image.open(sample.path) as own,
            ):
                assert shown.size == own.size and picture.mime_type == "image/png"
            [record] = (await client.read_resource(uris[1])).contents
            [diagnosis] = json.loads(record.text)
            assert Diagnosis.model_validate(diagnosis).label == sample.label
            for uri in ("gsco://images/img-000000000000", "gsco://records/x", "file:///etc/passwd"):
                with pytest.raises(MCPError, match="no resource"):
                    await client.read_resource(uri)

    asyncio.run(talk())


def test_resources_are_their_users_own(gsco, sample):
    async def talk() -> None:
        service = Service(gsco)
        id = (await service.call("ann", "add_image", data(sample))).text.split(",")[0]
        await service.call("ann", "classify", {"image": id, "task": "chest_xray"})
        assert service.picture("ann", id) and len(service.records("ann", id)) == 4
        assert service.picture("bob", id) is None and service.records("bob", id) is None

    asyncio.run(talk())


def test_the_usual_questions_are_prompts(gsco):
    async def talk() -> None:
        async with Client(mcp_server(gsco)) as client:
            prompts = (await client.list_prompts()).prompts
            assert [each.name for each in prompts] == ["diagnose", "evidence", "compare", "report"]
            for each in prompts:
                given = {argument.name: f"img-{argument.name}" for argument in each.arguments or ()}
                said = await client.get_prompt(each.name, given)
                assert all(value in said.messages[0].content.text for value in given.values())
            for name, given, says in (("erase", {}, "no such prompt"), ("compare", {"first": "a"}, "second")):
                with pytest.raises(MCPError, match=says):
                    await client.get_prompt(name, given)

    asyncio.run(talk())


def test_a_folder_that_is_none():
    with pytest.raises(ConfigurationError, match="not a folder"):
        ImageFolders([Path("/nowhere")])


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


@pytest.mark.attack
def test_over_http_each_key_has_its_own_images(server, sample):
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    async def talk(name: str, tool: str, arguments: dict) -> tuple[bool, str, list[str]]:
        headers = {"Authorization": f"Bearer {KEYS[name]}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=120) as http,
            Client(streamable_http_client(server, http_client=http)) as client,
        ):
            said = await client.call_tool(tool, arguments)
            resources = (await client.list_resources()).resources
            return said.is_error, said.content[0].text, [str(one.uri) for one in resources]

    failed, text, own = asyncio.run(talk("ann", "add_image", data(sample)))
    id = text.split(",")[0]
    assert not failed and f"gsco://images/{id}" in own
    failed, text, others = asyncio.run(talk("bob", "classify", {"image": id, "task": "chest_xray"}))
    assert failed and "no image" in text and others == []


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
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 2 and "GSCO_API_KEYS" in run.stderr
