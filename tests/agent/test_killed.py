"""A process that is killed in the middle of a turn loses nothing, and no tool leaves its mark twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gsco import GSCo
from gsco.agent.assembly import LazyPanels
from gsco.case import ReviewDecision
from gsco.graphs.events import Final, ToolStarted
from gsco.images import ImageStore
from gsco.models.generalist.in_process import InProcessGeneralist
from gsco.tasks import TaskBook
from gsco.tools.stores.embedded import EmbeddedStore

from ..scripted import Scripted, call, calls, results

NURSERY = """
import json, os, sys, time
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import torch
from scripted import Scripted, call, calls, results
from gsco import GSCo
from gsco.agent.assembly import LazyPanels
from gsco.images import ImageStore
from gsco.models.generalist.in_process import InProcessGeneralist
from gsco.tasks import TaskBook
from gsco.tools.stores.embedded import EmbeddedStore
import gsco.graphs.consultation, gsco.agent.conversation, langgraph.checkpoint.sqlite.aio, transformers, timm

torch.set_num_threads(1)

def live(home, cards, specialists, bank, generalist, block, review):
    def stop(where):
        (home / where).touch()
        if where == block:
            time.sleep(600)

    def script(messages):
        stop(f"model-{len(results(messages))}")
        if results(messages):
            return "dark, I think."
        return calls(call("list_tasks", "call-1"), call("diagnose", "call-2", task="shade"))

    class Slow(Scripted):
        def choose(self, requests):
            stop("choose")
            return super().choose(requests)

    images = ImageStore(home / "images")
    model = Slow(InProcessGeneralist.load(generalist, images, device="cpu"), script)
    made = GSCo(
        tasks=TaskBook(Path(cards)), panels=LazyPanels([Path(specialists)]), images=images, generalist=model,
        store=lambda: EmbeddedStore(Path(bank), readonly=True), neighbours=4,
        conversations=home / "conversations.sqlite", review=set(review),
    )
    made.consult("case", user="ann").send("What is this?", [home / "image.png"])
    (home / "done").touch()
    time.sleep(600)

print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        try:
            live(Path(order.pop("home")), **order)
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(1)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(status, flush=True)
"""


class Nursery:
    """A process that has everything imported, and forks one that takes a turn."""

    def __init__(self, parts: dict[str, str]) -> None:
        self._parts = parts
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, str(Path(__file__).parent.parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._said() == "ready"

    def killed(self, home: Path, where: str, *, after: float = 0.0, review: tuple[str, ...] = ()) -> None:
        """Let a turn be taken, and kill its process where it is (``where``), or some time after that."""
        order = {**self._parts, "home": str(home), "block": "" if after else where, "review": review}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        child = int(self._said())
        waited = time.monotonic() + 120
        while not (home / where).exists():
            assert time.monotonic() < waited, f"it never came to {where}"
            time.sleep(0.002)
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
        assert int(self._said()) == signal.SIGKILL, "it ended before it was killed"

    def close(self) -> None:
        self._process.communicate()

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def parts(cards, specialist_folders, bank, generalist_folder) -> dict[str, str]:
    return {
        "cards": str(cards),
        "specialists": str(specialist_folders),
        "bank": str(bank),
        "generalist": str(generalist_folder),
    }


@pytest.fixture(scope="module")
def nursery(parts) -> Iterator[Nursery]:
    made = Nursery(parts)
    yield made
    made.close()


@pytest.fixture
def home(tmp_path, pictures) -> Path:
    pictures.shade("dark", 40).save(tmp_path / "image.png")
    return tmp_path


@pytest.fixture
def reopened(home, parts) -> Iterator[Any]:
    """The same installation in this process, over what the killed one left."""
    made: list[GSCo] = []

    def open_again(**changes: Any) -> GSCo:
        images = ImageStore(home / "images")
        model = InProcessGeneralist.load(parts["generalist"], images, device="cpu")
        asked = calls(call("list_tasks", "call-1"), call("diagnose", "call-2", task="shade"))
        made.append(
            GSCo(
                tasks=TaskBook(Path(parts["cards"])),
                panels=LazyPanels([Path(parts["specialists"])]),
                store=lambda: EmbeddedStore(Path(parts["bank"]), readonly=True),
                generalist=Scripted(model, lambda said: "dark, I think." if results(said) else asked),
                images=images,
                conversations=home / "conversations.sqlite",
                neighbours=4,
                **changes,
            )
        )
        return made[-1]

    yield open_again
    for each in made:
        each.close()


def rest_of(gsco: GSCo) -> list[Any]:
    async def gather() -> list[Any]:
        return [event async for event in gsco.consult("case", user="ann").astream_resume()]

    return asyncio.run(gather())


def whole(gsco: GSCo) -> None:
    """The conversation is what it would be without the kill."""
    record = gsco.export_thread("case", user="ann")
    assert [one.role for one in record.said] == ["user", "assistant", "tool", "tool", "assistant"]
    assert record.said[0].text == "What is this?" and record.said[0].images == (record.images[0].id,)
    assert [finding.id for finding in record.findings] == ["call-1", "call-2"]
    assert record.findings[1].diagnosis.task == "shade" and record.status == "ready"
    assert gsco.consult("case", user="ann").send("Thank you.").text


@pytest.mark.parametrize(
    ("where", "again"),
    [
        ("model-0", ["diagnose", "list_tasks"]),  # while it is asked for the first time
        ("choose", ["diagnose"]),  # one tool has answered, the other is at work
        ("model-2", []),  # both have answered
    ],
)
def test_killed_at_a_step(nursery, reopened, home, where, again):
    nursery.killed(home, where)
    gsco = reopened()
    assert [summary.status for summary in gsco.threads(user="ann")] == ["cut off"]
    events = rest_of(gsco)
    assert sorted(event.name for event in events if isinstance(event, ToolStarted)) == again
    assert isinstance(events[-1], Final) and events[-1].diagnosis.task == "shade"
    whole(gsco)


def test_killed_while_a_person_is_asked(nursery, reopened, home):
    nursery.killed(home, "done", review=("always",))
    gsco = reopened(review={"always"})
    consultation = gsco.consult("case", user="ann")
    assert consultation.pending().diagnosis.task == "shade"
    turn = consultation.resume(ReviewDecision(action="approve", reviewer="Dr A"))
    assert turn.diagnosis.review.decision.reviewer == "Dr A"
    assert [one.role for one in consultation.history()] == ["user", "assistant", "tool", "tool", "assistant"]


@pytest.mark.slow
@pytest.mark.parametrize("milliseconds", [1, 60, 300, 1000, 2500])
def test_killed_at_any_moment(nursery, reopened, home, milliseconds):
    """Whenever it is, the turn is there in part or as a whole, and never half of a step."""
    nursery.killed(home, "model-0", after=milliseconds / 1000)
    gsco = reopened()
    consultation = gsco.consult("case", user="ann")
    if consultation.export().status == "cut off":
        rest_of(gsco)
    whole(gsco)
