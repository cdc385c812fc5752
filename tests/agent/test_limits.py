"""Texts and JSON over the limits: refused in every face, before anything looks into them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import httpx
import pytest
from gsco import Case, GSCo
from gsco.agent.json_limits import MOST_VALUES, JsonLimits, JsonTooComplex, check_json, parse_json
from gsco.agent.text_limits import TextLimits
from gsco.errors import PromptTooLong, TextTooLong
from gsco.models.generalist.messages import MOST_CHARACTERS, check_length
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_a_text_may_be_as_long_as_the_limit():
    limits = TextLimits(message=10, request=25)
    limits.check(["x" * 10, None, "y" * 10, "z" * 5])
    with pytest.raises(TextTooLong, match=r"11 characters.*GSCO_MAX_MESSAGE_CHARACTERS"):
        limits.check(["x" * 11])
    with pytest.raises(TextTooLong, match=r"26 characters in total.*GSCO_MAX_REQUEST_CHARACTERS"):
        limits.check(["x" * 10, "y" * 10, "z" * 6])


def test_a_prompt_is_refused_before_it_is_tokenised():
    check_length([HumanMessage("x" * MOST_CHARACTERS)])
    with pytest.raises(PromptTooLong, match="characters"):
        check_length([HumanMessage("x" * MOST_CHARACTERS), HumanMessage("x")])


@given(VALUES)
def test_json_within_the_limits_is_parsed_as_ever(value):
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"0," * MOST_VALUES + b"0]",
        b"{" + b",".join(b'"%x":1' % n for n in range(MOST_VALUES)) + b"}",
        b"[" * 200_000,
        b'{"a":' * 90_000,
        b"9" * 100_000,
        b'"\xff"',
    ],
    ids=["list", "keys", "nested lists", "nested objects", "number", "not UTF-8"],
)
def test_json_over_a_limit_is_refused_at_once(body):
    start = time.perf_counter()
    with pytest.raises(JsonTooComplex) as raised:
        parse_json(body)
    assert time.perf_counter() - start < 1 and len(str(raised.value)) < 200


def test_base64_does_not_count():
    check_json(json.dumps({"image": "data:image/png;base64," + "A+/=" * 5_000_000}).encode())


def posted(body: bytes, *, max_bytes: int = 2**20, kind: str = "application/json") -> tuple[int, bytes]:
    """What the middleware answers, and what comes behind it sees."""
    seen: list[bytes] = []

    async def behind(scope, receive, send):
        seen.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask() -> int:
        transport = httpx.ASGITransport(JsonLimits(behind, max_bytes))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return (await client.post("/", content=body, headers={"content-type": kind})).status_code

    return asyncio.run(ask()), b"".join(seen)


def test_the_middleware_hands_on_what_is_within_the_limits():
    assert posted(b'{"a": [1, 2]}') == (204, b'{"a": [1, 2]}')


def test_the_middleware_refuses_what_is_not():
    assert posted(b"[" * (MOST_VALUES + 1)) == (413, b"")
    assert posted(b"[" * (MOST_VALUES + 1), kind="text/plain") == (413, b"")
    assert posted(b"x" * 101, max_bytes=100) == (413, b"")


@pytest.mark.attack
def test_bodies_that_never_arrive_are_given_up_and_take_bounded_memory():
    """Twenty clients that leave each body unfinished: four fit, the others hear so, and all are ended."""
    pieces = [b" " * 500, b" " * 400]

    async def behind(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    limits = JsonLimits(behind, 1000, seconds=0.5)
    scope = {"type": "http", "method": "POST", "headers": []}

    async def slow() -> int:
        left, statuses = list(pieces), list[int]()

        async def receive():
            if not left:
                await asyncio.sleep(30)
            return {"type": "http.request", "body": left.pop(0), "more_body": True}

        async def send(message) -> None:
            statuses.append(message.get("status", 0))

        await limits(scope, receive, send)
        return statuses[0]

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(slow() for _ in range(20)))

    statuses = asyncio.run(all_of_them())
    assert statuses.count(408) == 4 and statuses.count(429) == 16
    transport = httpx.ASGITransport(limits)

    async def ordinary() -> int:
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return (await client.post("/", content=b"[1]")).status_code

    assert asyncio.run(ordinary()) == 204, "who is answered makes room"


LONG = "word " * 20_000


@pytest.fixture(scope="module")
def gsco(tmp_path_factory, cards, specialist_folders, bank, generalist_folder) -> Iterator[GSCo]:
    with GSCo.from_settings(
        home=tmp_path_factory.mktemp("home"),
        tasks=cards,
        specialists=specialist_folders,
        case_store=str(bank),
        generalist_model=str(generalist_folder),
        neighbours=4,
    ) as made:
        yield made


@pytest.mark.parametrize("face", ["diagnose", "context", "send", "many", "stream"])
def test_python_refuses_long_texts(gsco, pictures, face):
    image = pictures.shade("dark", 1)
    with pytest.raises(TextTooLong):
        if face == "diagnose":
            gsco.diagnose(image, task="shade", question=LONG)
        elif face == "context":
            gsco.diagnose(image, task="shade", context=LONG)
        elif face == "send":
            gsco.consult().send(LONG, [image])
        elif face == "many":
            ref = gsco.images.put(image)
            gsco.diagnose_many([Case(id="a", images=(ref,), question=LONG)], task="shade")
        else:

            async def gather() -> list:
                return [event async for event in gsco.consult().astream(LONG)]

            asyncio.run(gather())


def test_the_command_line_refuses_long_texts(tmp_path, pictures, monkeypatch):
    from gsco.agent.cli import app
    from typer.testing import CliRunner

    monkeypatch.setenv("GSCO_HOME", str(tmp_path))
    pictures.shade("dark", 1).save(tmp_path / "a.png")
    found = CliRunner().invoke(
        app, ["diagnose", str(tmp_path / "a.png"), "--task", "busi", "--question", LONG]
    )
    assert found.exit_code == 2 and "limit is 50000" in found.stderr


def test_tools_refuse_long_arguments(gsco):
    from gsco.agent.mcp import Service

    said = asyncio.run(Service(gsco).call("ann", "classify", {"image": "img-0", "task": LONG}))
    assert said.failed and "characters" in said.text
