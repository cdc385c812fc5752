"""The throughput of a run against a bare asynchronous client that sends the very same requests.

The server is a stand-in in a process of its own that answers after a fixed time, as a model on a GPU would:
so what is compared is the work around the calls. The evidence of the cases is gathered before (all arms of a
run share it); requests are what the generalist's four arms ask. The bare client sends bodies that were made
beforehand and throws the answers away.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .pictures import fresh_cases
from .timing import Race, print_table, race

if TYPE_CHECKING:
    from ...evals.runner import CaseSet, RunContext

TURN = 10.0
"""Seconds that a turn takes at least: enough cases for that, so that a run's beginning weighs little."""
SECONDS = (0.05, 0.2, 0.5)
"""How long the server takes for an answer."""
AT_ONCE = 16
"""Requests in flight: what the served generalist keeps to."""
GOAL = 0.9
TASK = "busi"
ARMS = ("generalist", "moed", "rad", "gsco")
RUN, BARE = "gsco eval run", "bare client"

_SERVER = """
import asyncio, sys
import uvicorn
from fastapi import FastAPI, Request
app, kept = FastAPI(), []
@app.get("/v1/models")
def models():
    return {"object": "list", "data": [{"id": "stand-in", "object": "model"}]}
@app.post("/v1/chat/completions")
async def complete(request: Request):
    kept.append((await request.body()).decode())
    await asyncio.sleep(float(sys.argv[2]))
    message = {"role": "assistant", "content": "benign"}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "stand-in", "choices": [choice]}
@app.post("/taken")
def taken():
    bodies = list(kept)
    kept.clear()
    return bodies
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


def cases_for(seconds: float, turn: float = TURN) -> int:
    """Cases whose requests, so many at once, take a turn's time at least."""
    return math.ceil(turn * AT_ONCE / (seconds * len(ARMS)))


def measure(seconds: float, *, number: int, rounds: int = 3) -> tuple[Race, int]:
    """Let run and bare client take turns; also how many requests a turn has."""
    import httpx

    from ...evals.plan import Plan
    from ...evals.records import OUTCOMES
    from ...evals.runner import replay_cases, run_context_of
    from ...settings import Settings

    with TemporaryDirectory() as folder, _server(seconds) as url:
        settings = Settings(
            home=Path(folder) / "home",
            specialists=None,
            case_store="",
            generalist_url=f"{url}/v1",
            generalist_model="stand-in",
            generalist_mode="decode",
        )
        plan, out = Plan(arms=ARMS), Path(folder) / "run"
        with run_context_of(settings, plan) as bench:
            cases = _cases(bench, Path(folder), number)
            card = bench.gsco.tasks.get(TASK)

            def run() -> None:
                (out / OUTCOMES).unlink(missing_ok=True)
                finished = replay_cases(bench, lambda *_: cases, card, out, plan=plan, quiet=True)
                if finished.errors or finished.done != number * len(ARMS):
                    raise RuntimeError(f"{finished.errors} of {finished.done} outcomes are errors")

            run()
            bodies: list[str] = httpx.post(f"{url}/taken").json()
            contenders: dict[str, Callable[[], object]] = {
                RUN: run,
                BARE: lambda: asyncio.run(_send(f"{url}/v1/chat/completions", bodies)),
            }
            return race(contenders, rounds=rounds, warmup=0), len(bodies)


def main(arguments: Sequence[str] | None = ()) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turn", type=float, default=TURN, help="seconds that a turn takes at least")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(arguments)
    rows = []
    for seconds in SECONDS:
        number = cases_for(seconds, asked.turn)
        result, sent = measure(seconds, number=number, rounds=asked.rounds)
        speeds = [f"{sent / result.median(name):.1f}" for name in (RUN, BARE)]
        rows.append((f"{seconds:.2f} s", f"{number}", *speeds, f"{result.speed(RUN, BARE):.2f}", f"{GOAL}"))
    headings = ("an answer takes", "cases", "run, requests/s", "bare, requests/s", "× bare", "goal")
    note = (
        f"{len(ARMS)} arms, {AT_ONCE} requests at once; evidence gathered before. The "
        "run makes prompts, scales and encodes images, reads answers and writes each record with fsync."
    )
    print_table("Replaying against a bare client", headings, rows, note=note)


def _cases(bench: RunContext, folder: Path, number: int) -> CaseSet:
    from ...evals.datasets import Example
    from ...evals.runner import case_set

    examples = []
    for place, file in enumerate(fresh_cases(number, TASK)):
        path = folder / f"{place}.jpg"
        path.write_bytes(file)
        examples.append(
            Example(id=path.name, images=(path,), labels=("benign",), group=path.name, split="test")
        )
    return case_set(bench, "cut samples", "0" * 64, "test", examples, quiet=True)


async def _send(address: str, bodies: Sequence[str]) -> None:
    import httpx

    slots = asyncio.Semaphore(AT_ONCE)
    headers = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(timeout=300, headers=headers) as client:

        async def one(body: str) -> None:
            async with slots:
                (await client.post(address, content=body)).raise_for_status()

        await asyncio.gather(*map(one, bodies))


@contextmanager
def _server(seconds: float) -> Generator[str]:
    import httpx

    from ...models.serving.process import free_port

    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", _SERVER, str(port), str(seconds)])
    try:
        for _ in range(600):
            try:
                httpx.get(f"http://127.0.0.1:{port}/v1/models")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main(None)
