"""The file of conversations, opened by several programs."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gsco.agent.threads import Threads


def test_several_programs_make_one_file_at_the_same_moment(tmp_path: Path) -> None:
    """SQLite refuses one of them at once, which must be tried again."""
    for turn in range(60):
        together = threading.Barrier(5)

        async def open_and_leave(turn: int = turn) -> None:
            threads = Threads(tmp_path / f"{turn}.sqlite")
            await threads.saver()
            await threads.close()

        def run(together: threading.Barrier = together, opening=open_and_leave) -> None:
            together.wait()
            asyncio.run(opening())

        with ThreadPoolExecutor(5) as pool:
            for made in [pool.submit(run) for _ in range(5)]:
                made.result()
