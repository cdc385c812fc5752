"""Small requests that would take gigabytes or minutes: refused, while the server goes on answering."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image

from .conftest import MIB

pytestmark = [pytest.mark.attack, pytest.mark.slow]

MOST_GROWTH = 2048 * MIB
SLOWEST = 1.0


def png(width: int, height: int, channels: int = 1) -> bytes:
    """A black PNG."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(6)
    rows = packer.compress(bytes((1 + width * channels) * height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def chat(*parts: dict, text: str = "What is this?") -> dict:
    content = [{"type": "text", "text": text}, *parts]
    return {"model": "gsco", "messages": [{"role": "user", "content": content}]}


def shown(data: bytes) -> dict:
    return {"type": "image_url", "image_url": {"url": uri(data)}}


def test_images_texts_and_keys_that_would_fill_the_memory(start):
    """One server for all of them: starting it takes longer than any attack."""
    server = start("serve", "api")

    def post(path: str, body: dict | bytes) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        return httpx.post(server.url + path, content=content, headers=headers, timeout=280)

    def tried(name: str, expected: set[int], *requests: tuple[str, dict | bytes]) -> list[httpx.Response]:
        with server.watched(), ThreadPoolExecutor(len(requests)) as pool:
            answers = list(pool.map(lambda one: post(*one), requests))
        print(
            f"{name}: {server.growth / MIB:.0f} MiB above the rest, /healthz {server.slowest:.2f} s, "
            f"others {server.others:.0%}"
        )
        assert {answer.status_code for answer in answers} <= expected, [one.text[:300] for one in answers]
        assert server.growth < MOST_GROWTH, (name, server.growth / MIB)
        # Alone on the machine within a second; beside others, within what they leave of it.
        assert server.slowest < SLOWEST / max(0.05, 1 - server.others), (name, server.slowest, server.others)
        return answers

    plain = io.BytesIO()
    Image.new("L", (64, 64), 90).save(plain, "PNG")
    tried(
        "a plain image",
        {200},
        ("/v1/diagnose", {"image": uri(plain.getvalue()), "task": "busi", "gate": "off"}),
    )

    thin = [
        ("/v1/diagnose", {"image": uri(png(*size)), "task": "busi"})
        for size in ((1, 4_000_000), (4_000_000, 1))
    ]
    for answer in tried("thin images", {413}, *thin):
        assert "crop" in answer.text or "side" in answer.text

    large = [uri(png(8000, 8000, 3)[:-12] + bytes([0, 0, 0, 0]) + b"IEND\xaeB`\x82")] * 9
    tried(
        "nine images of 64 megapixels",
        {200},
        ("/v1/diagnose", {"image": large, "task": "busi", "gate": "off"}),
    )
    tried(
        "five of them in a chat, by two at once",
        {200},
        *[("/v1/chat/completions", chat(*[shown(png(side, 8000, 3))] * 5)) for side in (7900, 7901)],
    )

    words = "pneumonia of the lower lobe " * 1_150_000
    tried("a question of 30 MB", {400, 413}, ("/v1/chat/completions", chat(text=words)))
    split = {
        "model": "gsco",
        "messages": [{"role": "user", "content": words[:99_000]} for _ in range(300)],
    }
    tried("a question of 30 MB in many messages", {413}, ("/v1/chat/completions", split))
    context = {"image": uri(plain.getvalue()), "task": "busi", "context": words[:99_000]}
    tried("a context of 99,000 characters", {413}, ("/v1/diagnose", context))

    keys = b"{" + b",".join(b'"%x":1' % n for n in range(2_900_000)) + b"}"
    for answer in tried(f"distinct keys, {len(keys) / MIB:.0f} MiB", {413}, *[("/v1/diagnose", keys)] * 2):
        assert answer.json()["error"]["code"] == "json_too_complex"
    tried("nesting", {400, 413}, ("/v1/diagnose", b"[" * 200_000), ("/v1/diagnose", b'{"a":' * 100_000))
    tried("a long number", {400, 413}, ("/v1/diagnose", b'{"neighbours": ' + b"9" * 10_000_000 + b"}"))

    tried(
        "a plain image again",
        {200},
        ("/v1/diagnose", {"image": uri(plain.getvalue()), "task": "busi", "gate": "off"}),
    )
    assert server.end() == 0
