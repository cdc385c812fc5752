"""The file of conversations, opened by several programs."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

from gsco import GSCo
from gsco.agent.conversation_store import ConversationStore
from langgraph.checkpoint.base import id as ids


def test_several_programs_make_one_file_at_the_same_moment(tmp_path: Path) -> None:
    """SQLite refuses one of them at once, which must be tried again."""
    for turn in range(60):
        together = threading.Barrier(5)

        async def open_and_leave(turn: int = turn) -> None:
            threads = ConversationStore(tmp_path / f"{turn}.sqlite")
            await threads.saver()
            await threads.close()

        def run(together: threading.Barrier = together, opening=open_and_leave) -> None:
            together.wait()
            asyncio.run(opening())

        with ThreadPoolExecutor(5) as pool:
            for made in [pool.submit(run) for _ in range(5)]:
                made.result()


def test_a_clock_that_was_set_back_loses_no_turn(monkeypatch, tmp_path):
    """As after a restart on a machine whose clock was a day ahead: new checkpoints sort behind the known."""
    with GSCo.from_settings(home=tmp_path, torch_threads=1) as gsco:
        gsco.consult("a").send("First?")
    yesterday = SimpleNamespace(time_ns=lambda: time.time_ns() - 86_400 * 10**9)
    monkeypatch.setattr(ids, "time", yesterday)
    monkeypatch.setattr(ids, "_last_v6_timestamp", None)
    with GSCo.from_settings(home=tmp_path, torch_threads=1) as gsco:
        for question in ("Second?", "Third?"):
            gsco.consult("a").send(question)
        said = [one.text for one in gsco.consult("a").history() if one.role == "user"]
    assert said == ["First?", "Second?", "Third?"]
