"""Two processes of ``gsco serve api`` over one Postgres and one folder of images."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from gsco.models.mini.samples import samples

from .test_postgres import database

__all__ = ["database"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KEYS = "ana:key-of-ana-0123456789,ben:key-of-ben-0123456789"
PATIENCE = 300


class Replica:
    """One of the servers."""

    def __init__(self, home: Path, images: Path, database: str) -> None:
        home.mkdir()
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GSCO_")},
            "GSCO_HOME": str(home),
            "GSCO_IMAGES": str(images),
            "GSCO_CONVERSATIONS": database,
            "GSCO_API_KEYS": KEYS,
            "GSCO_REVIEW": "always",
            "GSCO_REVIEWERS": "ben",
            "GSCO_TORCH_THREADS": "1",
        }
        self.log = home / "log"
        command = [sys.executable, "-m", "gsco.agent.cli", "serve", "api", "--port", "0"]
        with self.log.open("w") as errors:
            self.process = subprocess.Popen(command, env=env, stderr=errors, cwd=home)

    def ready(self) -> Replica:
        end = time.monotonic() + PATIENCE
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", self.log.read_text())):
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.2)
        self.address = found[0]
        while httpx.get(f"{self.address}/readyz", timeout=60).status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.5)
        return self

    def ask(self, user: str, method: str, path: str, **more) -> httpx.Response:
        headers = {"authorization": f"Bearer key-of-{user}-0123456789"}
        return httpx.request(method, f"{self.address}/v1{path}", headers=headers, timeout=PATIENCE, **more)

    def say(self, text: str, image: Path | None = None) -> dict:
        content: list = [{"type": "text", "text": text}]
        if image is not None:
            address = f"data:image/png;base64,{base64.b64encode(image.read_bytes()).decode()}"
            content.append({"type": "image_url", "image_url": {"url": address}})
        message = {"role": "user", "content": content}
        body = {"model": "gsco", "messages": [message], "metadata": {"thread": "case", "task": "busi"}}
        answer = self.ask("ana", "POST", "/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def said(self) -> list[str]:
        record = self.ask("ana", "GET", "/threads/case").json()
        return [one["text"] for one in record["said"] if one["role"] == "user"]

    def end(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        self.process.wait(60)


@contextmanager
def replicas(folder: Path, database: str) -> Iterator[list[Replica]]:
    """Two of them, started at the same moment over an empty database."""
    started: list[Replica] = []
    try:
        for name in ("first", "second"):
            started.append(Replica(folder / name, folder / "images", database))
        yield [one.ready() for one in started]
    finally:
        for one in started:
            one.end(signal.SIGKILL)


def test_two_replicas_are_one_service(database: str, tmp_path: Path):
    with replicas(tmp_path, database) as (first, second):
        begun = first.say("What is the diagnosis?", Path(samples("busi")[0].path))
        assert begun["gsco"]["review"], "a person must decide"

        waiting = second.ask("ben", "GET", "/reviews").json()
        assert [(one["user"], one["thread_id"]) for one in waiting] == [("ana", "case")]
        decided = second.ask("ben", "POST", "/reviews/ana/case/decision", json={"action": "approve"})
        assert decided.status_code == 200, decided.text
        record = first.ask("ana", "GET", "/threads/case").json()
        assert record["status"] == "ready"
        assert record["findings"][0]["diagnosis"]["review"]["decision"]["reviewer"] == "ben"
        assert first.ask("ben", "GET", "/reviews").json() == []

        second.say("How sure are you?")
        assert first.said() == ["What is the diagnosis?", "How sure are you?"]

        # Turns of one conversation at both at once: each waits for the other, and none is lost.
        asking = [
            threading.Thread(target=one.say, args=(f"Question {place}.{n}",))
            for n in range(3)
            for place, one in enumerate((first, second))
        ]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
        acknowledged = {"What is the diagnosis?", "How sure are you?"}
        acknowledged |= {f"Question {place}.{n}" for place in range(2) for n in range(3)}
        assert len(first.said()) == 8 and set(first.said()) == set(second.said()) == acknowledged

        # One is killed in the middle of a turn: what was acknowledged is there, and the other goes on.
        def cut_off() -> None:
            with suppress(httpx.HTTPError, AssertionError):
                first.say("And now?")

        dying = threading.Thread(target=cut_off)
        dying.start()
        end = time.monotonic() + 60
        while "And now?" not in second.said() and dying.is_alive() and time.monotonic() < end:
            time.sleep(0.05)
        first.end(signal.SIGKILL)
        dying.join()
        second.say("Are you still there?")
        assert acknowledged < set(second.said()) and second.said()[-1] == "Are you still there?"
        (image,) = second.ask("ana", "GET", "/threads/case").json()["images"]
        assert list((tmp_path / "images").rglob(f"{image['sha256']}.png")), (
            "the image is in the shared folder"
        )
        assert not list(tmp_path.glob("*/images/*")), "and in no replica's own"
