"""SIGTERM: every command that runs long ends with status 0 within its time, and leaves whole files."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from ..forked import ForkedCommand
from .conftest import environment, free_port, gsco

pytestmark = [pytest.mark.attack, pytest.mark.slow]

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


def whole(database: Path) -> None:
    """SQLite's log is written back, and the file is sound."""
    log = database.with_name(f"{database.name}-wal")
    assert not log.exists() or log.stat().st_size == 0
    with sqlite3.connect(database) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert opened.execute("SELECT count(*) FROM checkpoints").fetchone()[0] > 0


SAID = {
    "model": "gsco",
    "messages": [{"role": "user", "content": "What can you do?"}],
    "metadata": {"thread": "mine"},
}


def test_the_api_finishes_what_runs(start, tmp_path):
    server = start("serve", "api")
    first = httpx.post(f"{server.url}/v1/chat/completions", json=SAID, timeout=120)
    assert first.status_code == 200, first.text
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(httpx.post(f"{server.url}/v1/chat/completions", json=SAID, timeout=120))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.3)
    began = time.monotonic()
    assert server.end() == 0, server.log.read_text()
    assert time.monotonic() - began < 45
    asking.join(60)
    assert answers[0].status_code == 200, answers[0].text
    whole(tmp_path / "home" / "conversations.sqlite")


def test_a_hung_thread_does_not_keep_the_api_alive(start, tmp_path):
    """A server that never answers holds a discovery thread for as long as it likes."""
    silent = free_port()
    script = (
        f"import socket\ns = socket.create_server(('127.0.0.1', {silent}))\nheld = []\n"
        "while True: held.append(s.accept())"
    )
    hanging = subprocess.Popen([sys.executable, "-c", script])
    try:
        server = start(
            "serve",
            "api",
            ready="/healthz",
            GSCO_GENERALIST_URL=f"http://127.0.0.1:{silent}/v1",
            GSCO_GENERALIST_MODEL="any",
            GSCO_SHUTDOWN_SECONDS="2",
        )
        with pytest.raises(httpx.TimeoutException):
            httpx.post(f"{server.url}/v1/chat/completions", json=SAID, timeout=3)
        began = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - began < 15
    finally:
        hanging.kill()
        hanging.wait()


def test_the_page_ends(start):
    server = start("ui", ready="/")
    began = time.monotonic()
    assert server.end() == 0, server.log.read_text()
    assert time.monotonic() - began < 45


def test_the_mcp_server_over_http_ends(tmp_path):
    port, log = free_port(), tmp_path / "log"
    words = ("mcp", "--http", "--port", str(port))
    process = ForkedCommand(*words, environment=environment(tmp_path), out=log, err=log)
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        # A GET opens a stream that does not end by itself.
        with suppress(httpx.TransportError), httpx.stream("GET", f"http://127.0.0.1:{port}/mcp", timeout=5):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(45) == 0, log.read_text()


def test_the_mcp_server_over_standard_input_ends(tmp_path):
    with subprocess.Popen(
        gsco("mcp"), env=environment(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
        process.stdin.flush()
        assert b"serverInfo" in process.stdout.readline()
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)  # its input stays open
        assert process.wait(30) == 0
        assert time.monotonic() - began < 15


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "set"
    random = np.random.default_rng(0)
    for label in ("benign", "malignant", "normal"):
        (folder / label).mkdir(parents=True)
        for number in range(300):
            pixels = random.integers(0, 255, (240, 240), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ("store", "build", "DATA", "--task", "busi"),
        (
            "train",
            "specialist",
            "--dataset",
            "DATA",
            "--task",
            "busi",
            "--arch",
            "resnet34",
            "--image-size",
            "224",
            "--epochs",
            "500",
        ),
        ("eval", "run", "DATA", "--task", "busi", "--out", "OUT"),
        ("diagnose", "ALL", "--task", "busi"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_long_work_ends(command, dataset, tmp_path):
    images = [str(path) for path in sorted(dataset.rglob("*.png"))]
    replaced = {"DATA": [str(dataset)], "OUT": [str(tmp_path / "run")], "ALL": images}
    words = [word for part in command for word in replaced.get(part, [part])]
    own = {"GSCO_SPECIALISTS": str(tmp_path / "own")}
    if command[0] == "store":
        own["GSCO_CASE_STORE"] = str(tmp_path / "cases")
    (tmp_path / "own").mkdir()
    log = tmp_path / "log"
    process = ForkedCommand(*words, environment=environment(tmp_path / "home", **own), out=log, err=log)
    found = psutil.Process(process.pid)
    end = time.monotonic() + 120
    # In the middle of the work.
    while time.monotonic() < end and process.poll() is None:
        if found.cpu_times().user > 4:
            break
        time.sleep(0.05)
    assert process.poll() is None, f"it ended before it was stopped:\n{log.read_text()}"
    process.send_signal(signal.SIGTERM)
    assert process.wait(45) == 0, log.read_text()
    assert "SIGTERM" in log.read_text(), log.read_text()
    for database in (tmp_path / "cases").rglob("*.sqlite") if (tmp_path / "cases").exists() else ():
        with sqlite3.connect(database) as opened:
            assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
