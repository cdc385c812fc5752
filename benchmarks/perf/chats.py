"""Many chats at once with ``gsco serve api``: errors, mix-ups, waiting and memory.

Each user has a key and a thread of their own, shows an image that nobody has seen yet, asks for the diagnosis
and then goes on. All users at once are set against the same chats one after the other. Whether anything got
from one chat into another is read from the records that the server kept.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ...images import pixel_hash, read_image
from .pictures import fresh_cases
from .timing import print_table

if TYPE_CHECKING:
    import httpx

USERS = 50
WAVES = 3
"""So often all users begin a new chat: memory must not grow with them."""
TASK = "busi"
ASKED = "What is the diagnosis?"
MIB = 2**20


@dataclass
class Wave:
    """What a number of chats came to."""

    turns: list[float] = field(default_factory=list)
    """Seconds of each turn."""
    errors: int = 0
    mixed: int = 0
    """Chats whose record holds something that is not theirs, or lacks something that is."""
    seconds: float = 0.0
    memory: float = 0.0
    """MiB that the server holds afterwards."""


class User:
    """One who chats.

    Args:
        client: with the user's key.
        name: of the user.
    """

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self._client, self._name = client, name

    async def chat(self, thread: str, image: bytes, wave: Wave) -> None:
        """Take two turns and read the record."""
        more = f"How sure are you? {self._name}, {thread}"
        shown = {"url": "data:image/jpeg;base64," + base64.b64encode(image).decode()}
        first = [{"type": "text", "text": ASKED}, {"type": "image_url", "image_url": shown}]
        for content in (first, more):
            start = time.perf_counter()
            answer = await self._client.post(
                "/v1/chat/completions",
                json={
                    "model": "gsco",
                    "messages": [{"role": "user", "content": content}],
                    "metadata": {"thread": thread},
                },
            )
            wave.turns.append(time.perf_counter() - start)
            wave.errors += answer.status_code != 200
        record = (await self._client.get(f"/v1/threads/{thread}")).json()
        wave.mixed += not _own(record, more, pixel_hash(read_image(image)))


def _own(record: dict[str, Any], more: str, image: str) -> bool:
    """Whether a record holds what this user said and showed, and findings on that, and nothing else."""
    said = [one["text"] for one in record["said"] if one["role"] == "user"]
    shown = {one["sha256"] for one in record["images"]}
    found = {one["image"]["sha256"] for one in record["findings"] if one["image"]}
    return said == [ASKED, more] and shown == {image} and found == {image}


async def measure(address: str, keys: Sequence[str], server: int, *, waves: int) -> tuple[Wave, list[Wave]]:
    """Let all users chat one after the other, then all at once, ``waves`` times."""
    async with _users(address, keys) as users:
        await users[0].chat("warm", fresh_cases(1, TASK)[0], Wave())
        alone = await _wave(users, "alone", server, at_once=False)
        return alone, [await _wave(users, f"wave-{n}", server, at_once=True) for n in range(waves)]


async def _wave(users: Sequence[User], thread: str, server: int, *, at_once: bool) -> Wave:
    import psutil

    wave, images = Wave(), fresh_cases(len(users), TASK)
    start = time.perf_counter()
    chats = [user.chat(thread, image, wave) for user, image in zip(users, images, strict=True)]
    if at_once:
        await asyncio.gather(*chats)
    else:
        for chat in chats:
            await chat
    wave.seconds = time.perf_counter() - start
    wave.memory = psutil.Process(server).memory_info().rss / MIB
    print(f"{thread}: {len(users)} chats in {wave.seconds:.0f} s", file=sys.stderr, flush=True)
    return wave


@asynccontextmanager
async def _users(address: str, keys: Sequence[str]) -> AsyncGenerator[list[User]]:
    from contextlib import AsyncExitStack

    import httpx

    async with AsyncExitStack() as stack:
        yield [
            User(
                await stack.enter_async_context(
                    httpx.AsyncClient(
                        base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=600
                    )
                ),
                f"user-{n}",
            )
            for n, key in enumerate(keys)
        ]


@contextmanager
def serving(keys: Sequence[str], home: Path) -> Generator[tuple[str, int]]:
    """Run ``gsco serve api`` with what is bundled; its address and process."""
    import httpx

    from ...models.serving.process import free_port

    port = free_port()
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GSCO_")}
    users = ",".join(f"user-{n}:{key}" for n, key in enumerate(keys))
    process = subprocess.Popen(
        [sys.executable, "-m", "gsco.agent.cli", "serve", "api", "--port", str(port)],
        env={**plain, "GSCO_HOME": str(home), "GSCO_API_KEYS": users, "GSCO_API_TIMEOUT": "600"},
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            try:
                if httpx.get(f"{address}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with status {process.returncode}")
            time.sleep(0.25)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait()


def main(arguments: Sequence[str] | None = ()) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--waves", type=int, default=WAVES)
    asked = parser.parse_args(arguments)
    keys = [sha256(f"key {n}".encode()).hexdigest() for n in range(asked.users)]
    with TemporaryDirectory() as home, serving(keys, Path(home)) as (address, process):
        alone, waves = asyncio.run(measure(address, keys, process, waves=asked.waves))
    named = [
        ("one after the other", alone),
        *((f"at once, wave {n}", wave) for n, wave in enumerate(waves, 1)),
    ]
    rows = [
        (
            name,
            str(wave.errors),
            str(wave.mixed),
            f"{statistics.median(wave.turns):.1f} s",
            f"{statistics.quantiles(wave.turns, n=20)[-1]:.1f} s",
            f"{alone.seconds / wave.seconds:.2f}",
            f"{wave.memory / alone.memory:.2f}",
        )
        for name, wave in named
    ]
    headings = ("chats", "errors", "mixed up", "a turn: p50", "p95", "× as fast", "× memory")
    note = (
        f"{asked.users} users of two turns each, the bundled models; the server holds {alone.memory:.0f} MiB "
        "after the first row."
    )
    print_table("Chats at once", headings, rows, note=note)


if __name__ == "__main__":
    main(None)
