"""Replaying cases through a served generalist, against a bare client and against the reference's way.

The bare client sends the very same requests, made beforehand, and does not even read the answers. The
reference's way is one case at a time through transformers' ``generate``. All use the bundled weights, in one
run, and every turn sees fresh images. Turns are short, so that whatever else the machine does hits all alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from .pictures import fresh_cases
from .timing import Race, print_table, race

if TYPE_CHECKING:
    from ...images import ImageStore
    from ...models.generalist.in_process import InProcessGeneralist
    from ...models.generalist.openai_compatible import OpenAICompatibleGeneralist
    from ...models.generalist.protocol import Choice

Way = Literal["strings", "decode"]

CASES = 200
ROUNDS = 5
"""Turns that the cases are divided into."""
CONCURRENCY = (1, 4, 16, 32)
WAYS: tuple[Way, ...] = ("decode", "strings")
TASK = "brain_mri"
GOAL_BARE = 0.9
"""``choose`` is to reach so much of the bare client's throughput."""
GOAL_REFERENCE = 5.0
"""And so many times the reference's, at some concurrency."""
REFERENCE = "transformers, one by one"
IN_PROCESS = "gsco in process, batches"


def served(way: Way, concurrency: int) -> str:
    """Name of a contender."""
    return f"gsco, {way}, {concurrency} at once"


def bare(way: Way, concurrency: int) -> str:
    """Name of its peer."""
    return f"bare, {way}, {concurrency} at once"


class ServedBenchmark:
    """The questions, and everybody who answers them."""

    def __init__(self, url: str, images: ImageStore, local: InProcessGeneralist, number: int) -> None:
        self._url, self._images, self._local, self._number = url, images, local, number
        self._clients: dict[tuple[Way, int], OpenAICompatibleGeneralist] = {}

    def contenders(self, ways: Sequence[Way]) -> dict[str, Callable[[], object]]:
        """Name what is compared; questions and requests for a turn are made before its time is taken."""
        found: dict[str, Callable[[], object]] = {}
        for way in ways:
            for concurrency in CONCURRENCY:
                client = self._client(way, concurrency)
                found[served(way, concurrency)] = _fresh(self.questions, client.choose)
                requests = _made_by(client, self.questions)
                found[bare(way, concurrency)] = _fresh(requests, _sending(self._url, concurrency))
        found[IN_PROCESS] = _fresh(self.questions, self._local.choose)
        found[REFERENCE] = _fresh(self.questions, self._one_by_one)
        return found

    def questions(self) -> list[Choice]:
        """Ask about images that nobody has seen yet."""
        from ...case import Case
        from ...models.generalist.prompts import PROFILES
        from ...models.generalist.protocol import Choice
        from ...tasks import builtin_tasks

        task = builtin_tasks()[TASK]
        refs = [self._images.put(file) for file in fresh_cases(self._number, TASK)]
        return [
            Choice(PROFILES["paper"].closed_messages(task, Case(id=ref.id, images=(ref,))), task.options)
            for ref in refs
        ]

    def _client(self, way: Way, concurrency: int) -> OpenAICompatibleGeneralist:
        from ...models.generalist.openai_compatible import OpenAICompatibleGeneralist

        if (way, concurrency) not in self._clients:
            self._clients[way, concurrency] = OpenAICompatibleGeneralist(
                self._url, self._images, mode=way, concurrency=concurrency
            )
        return self._clients[way, concurrency]

    def _one_by_one(self, questions: Sequence[Choice]) -> object:
        """As the reference does it: one prompt, one ``generate``, greedy; then the next."""
        return [self._local.generate([question.messages], max_new_tokens=20) for question in questions]


def measure(url: str, *, number: int = CASES, rounds: int = ROUNDS, ways: Sequence[Way] = WAYS) -> Race:
    """Let them take turns of ``number // rounds`` cases; before that each goes once over a few."""
    from ...images import ImageStore
    from ...models.generalist.in_process import InProcessGeneralist
    from ...models.mini import bundled

    with TemporaryDirectory() as folder:
        images = ImageStore(Path(folder))
        local = InProcessGeneralist.load(bundled("generalist"), images, dtype="float32")
        race(ServedBenchmark(url, images, local, 16).contenders(ways), rounds=1, warmup=0)
        return race(
            ServedBenchmark(url, images, local, number // rounds).contenders(ways), rounds=rounds, warmup=0
        )


def report(result: Race, number: int, ways: Sequence[Way] = WAYS) -> None:
    """Print the table."""
    number -= number % len(result.seconds[REFERENCE])
    rows = []
    for name in result.seconds:
        peer = name.replace("gsco, ", "bare, ", 1)
        beside = f"{result.speed(name, peer):.2f}" if peer != name and peer in result.seconds else ""
        rows.append(
            (
                name,
                f"{number / sum(result.seconds[name]):.1f}",
                beside,
                f"{GOAL_BARE}" if beside else "",
                f"{result.speed(name, REFERENCE):.2f}",
            )
        )
    headings = ("way", "cases/s", "× bare", "goal", "× reference")
    best = max(result.speed(served(way, count), REFERENCE) for way in ways for count in CONCURRENCY)
    note = (
        f"{number} fresh images of {TASK} each, four options, the same weights in float32 on the same"
        f" machine. Goal against the reference's way: {GOAL_REFERENCE:.0f}; the best reached {best:.2f}."
    )
    print_table("A served generalist", headings, rows, note=note)


def main(arguments: Sequence[str] | None = ()) -> None:
    """Start vLLM with the bundled generalist, measure and print the table."""
    from ...models.serving.interpreter import find_python, has_accelerator
    from ...models.serving.launch_plan import planned
    from ...models.serving.process import Server, free_port
    from ...settings import Settings

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--url", default="", help="a server that runs already, with the bundled generalist")
    parser.add_argument("--way", choices=WAYS, action="append", help="repeatable; all of them if not given")
    asked = parser.parse_args(arguments)
    ways: Sequence[Way] = asked.way or WAYS
    if asked.url:
        report(measure(asked.url, number=asked.cases, rounds=asked.rounds, ways=ways), asked.cases, ways)
        return
    python = find_python(Settings().vllm_python)
    launch = replace(planned("mini", port=free_port()), cpu=not has_accelerator(python))
    with TemporaryDirectory() as folder, Server(launch, python, Path(folder) / "vllm.log") as server:
        report(measure(server.url, number=asked.cases, rounds=asked.rounds, ways=ways), asked.cases, ways)


def _fresh(make: Callable[[], Any], work: Callable[[Any], object]) -> Callable[[], object]:
    """Work on what was made before, and make anew for the next turn when it is asked for again."""
    waiting = [make()]

    def turn() -> object:
        return work(waiting.pop() if waiting else make())

    return turn


def _made_by(
    client: OpenAICompatibleGeneralist, questions: Callable[[], list[Choice]]
) -> Callable[[], list[bytes]]:
    """The bodies that ``choose`` would send."""

    def make() -> list[bytes]:
        from ...models.generalist.option_choice import choose

        bodies: list[bytes] = []

        async def keep(body: dict[str, Any]) -> dict[str, Any]:
            bodies.append(json.dumps(body).encode())
            nothing = {"message": {"content": "glioma"}}
            return {"choices": [nothing], "prompt_logprobs": [{str(len(bodies)): {"logprob": 0.0}}]}

        async def all_of_them() -> None:
            known = client._choice_request  # pyright: ignore[reportPrivateUsage]
            asking = replace(known, post=keep)
            for question in questions():
                await choose(client.mode, question, asking)

        asyncio.run(all_of_them())
        return bodies

    return make


def _sending(url: str, concurrency: int) -> Callable[[Sequence[bytes]], object]:
    """Send bodies, so many at once, and throw the answers away."""

    async def send(bodies: Sequence[bytes]) -> None:
        import httpx

        slots = asyncio.Semaphore(concurrency)
        async with httpx.AsyncClient(timeout=300, headers={"Content-Type": "application/json"}) as client:

            async def one(body: bytes) -> None:
                async with slots:
                    (await client.post(f"{url}/chat/completions", content=body)).raise_for_status()

            await asyncio.gather(*map(one, bodies))

    return lambda bodies: asyncio.run(send(bodies))


if __name__ == "__main__":
    main(None)
