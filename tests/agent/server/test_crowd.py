"""Fifty people at once: everybody is answered, and nobody reads anything of another's."""

import asyncio

import httpx
import pytest
from gsco.agent.auth import Users
from gsco.agent.server.policy import ServerPolicy
from gsco.images import pixel_hash

from .conftest import asked, served

PEOPLE = 50


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_chats_at_once_do_not_mix(make_gsco, pictures):
    keys = {f"user{n}": f"key-of-user-{n}-0123456789abcdef" for n in range(PEOPLE)}
    images = {name: pictures.shade("dark" if n % 2 else "bright", 500 + n) for n, name in enumerate(keys)}
    assert len({pixel_hash(image) for image in images.values()}) == PEOPLE
    users = Users.parse(",".join(f"{name}:{key}" for name, key in keys.items()))

    async def chat(address: str, name: str) -> dict:
        headers = {"Authorization": f"Bearer {keys[name]}"}
        async with httpx.AsyncClient(base_url=address, headers=headers, timeout=800) as client:
            for message in (asked(f"I am {name}.", images[name]), asked(f"Again {name}.")):
                body = {
                    "model": "gsco",
                    "messages": [message],
                    "metadata": {"thread": "mine", "task": "shade"},
                }
                answer = await client.post("/v1/chat/completions", json=body)
                assert answer.status_code == 200, answer.text
            listed = (await client.get("/v1/threads")).json()
            assert [one["thread_id"] for one in listed] == ["mine"] and name in listed[0]["title"]
            return (await client.get("/v1/threads/mine")).json()

    async def all_of_them(address: str) -> list[dict]:
        return await asyncio.gather(*(chat(address, name) for name in keys))

    with make_gsco() as gsco, served(gsco, ServerPolicy(users=users)) as address:
        records = asyncio.run(all_of_them(address))
        alone = {name: gsco.diagnose(images[name], task="shade") for name in list(keys)[::5]}
    for name, record in zip(keys, records, strict=True):
        said = [one["text"] for one in record["said"] if one["role"] == "user"]
        assert said == [f"I am {name}.", f"Again {name}."]
        assert [one["sha256"] for one in record["images"]] == [pixel_hash(images[name])]
        found = [finding for finding in record["findings"] if finding["image"]]
        assert found and {one["image"]["sha256"] for one in found} == {pixel_hash(images[name])}
        if name in alone:
            told = found[0]["diagnosis"]["probabilities"]
            assert told == pytest.approx(alone[name].probabilities, abs=1e-4)
