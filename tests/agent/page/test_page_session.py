"""Who gets in, and as whom."""

import asyncio
import re
from collections.abc import Awaitable, Callable

import httpx
import pytest
from gsco.agent.auth import Users
from gsco.agent.conversation_store import key_of
from gsco.agent.page.page_session import COOKIE, PageSession
from starlette.requests import Request
from starlette.responses import PlainTextResponse

KEYS = "anna:key-of-anna-0123456789,ben:key-of-ben-0123456789"
HERE = "http://127.0.0.1:7860"


async def _who(scope, receive, send) -> None:
    """Tells visitors who they are."""
    await PlainTextResponse(Request(scope).state.user)(scope, receive, send)


def visiting(keys: str, steps: Callable[[httpx.AsyncClient], Awaitable[None]], base: str = HERE) -> None:
    async def run() -> None:
        transport = httpx.ASGITransport(PageSession(_who, Users.parse(keys)))
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            await steps(client)

    asyncio.run(run())


def test_each_browser_is_a_user_of_its_own():
    async def steps(client):
        first = await client.get("/")
        cookie = first.headers["set-cookie"]
        assert cookie.startswith(f"{COOKIE}=") and "HttpOnly" in cookie and "SameSite=Lax" in cookie
        again = await client.get("/")
        assert again.text == first.text and "set-cookie" not in again.headers
        client.cookies.clear()
        assert (await client.get("/")).text != first.text
        assert key_of(first.text, "any").user == first.text

    visiting("", steps)


@pytest.mark.parametrize("token", ["", "short", "é" * 48, "../anna", "A" * 48, f"{'0' * 48}/x"])
def test_a_cookie_that_was_made_up_is_replaced(token):
    async def steps(client):
        headers = {"cookie": f"{COOKIE}={token}".encode()}
        answer = await client.get("/", headers=headers)
        assert re.fullmatch("browser-[0-9a-f]{48}", answer.text) and COOKIE in answer.headers["set-cookie"]

    visiting("", steps)


def test_without_keys_a_page_elsewhere_cannot_make_its_name_point_here():
    async def steps(client):
        answer = await client.get("/")
        assert answer.status_code == 403 and "GSCO_API_KEYS" in answer.text

    visiting("", steps, base="http://evil.example")


def test_with_keys_nobody_sees_anything_before_the_key():
    async def steps(client):
        for path in ("/config", "/gradio_api/info", "/reports/a/0.json", "/assets/x.js"):
            assert (await client.get(path)).status_code == 401
        assert (await client.post("/gradio_api/upload")).status_code == 401
        page = await client.get("/")
        assert page.status_code == 303 and page.headers["location"] == "login"
        asked = await client.get("/login")
        assert asked.status_code == 200 and 'type="password"' in asked.text

    visiting(KEYS, steps, base="http://gsco.example")


def test_a_key_opens_the_page_as_its_user():
    async def steps(client):
        wrong = await client.post("/login", data={"key": "key-of-nobody-0123456789"})
        assert wrong.status_code == 401 and "Invalid key" in wrong.text and "set-cookie" not in wrong.headers
        right = await client.post("/login", data={"key": "key-of-ben-0123456789"})
        assert right.status_code == 303 and "HttpOnly" in right.headers["set-cookie"]
        assert "key-of-ben" not in right.headers["set-cookie"]
        assert (await client.get("/")).text == "ben"

    visiting(KEYS, steps, base="http://gsco.example")


@pytest.mark.parametrize("cookie", ["0" * 48, "anna", "key-of-anna-0123456789"])
def test_a_session_cannot_be_made_up(cookie):
    async def steps(client):
        answer = await client.get("/config", headers={"cookie": f"{COOKIE}={cookie}"})
        assert answer.status_code == 401

    visiting(KEYS, steps)


def test_a_long_form_is_not_read():
    async def steps(client):
        answer = await client.post("/login", data={"key": "key-of-anna-0123456789", "more": "x" * 100_000})
        assert answer.status_code == 401

    visiting(KEYS, steps)


def test_a_browser_may_load_nothing_from_elsewhere():
    async def steps(client):
        headers = (await client.get("/")).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "http" not in policy and "*" not in policy
        assert headers["referrer-policy"] == "same-origin" and headers["x-content-type-options"] == "nosniff"

    visiting("", steps)
