"""Starting, waiting and stopping, with a stand-in for vLLM that does what a server may do wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from gsco.errors import ConfigurationError, GeneralistError
from gsco.models.serving import process
from gsco.models.serving.command import Launch
from gsco.models.serving.interpreter import find_python
from gsco.models.serving.process import Server, free_port
from gsco.models.serving.profiles import PROFILES

GOOD = """
import http.server, os, signal, subprocess, sys, time
port = int(sys.argv[sys.argv.index("--port") + 1])
stubborn = "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); print(1, flush=True); time.sleep(99)"
child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
child.stdout.readline()
print("engine", child.pid, flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", port), type("H", (http.server.BaseHTTPRequestHandler,), {
    "do_GET": lambda self: (self.send_response(200), self.end_headers()),
})).serve_forever()
"""
BROKEN = "import sys; print('CUDA error: no kernel image', flush=True); sys.exit(3)"
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
stubborn = "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stubborn])
print("loading", flush=True)
time.sleep(600)
"""
SILENT = "import time; print('loading', flush=True); time.sleep(600)"


@pytest.fixture
def interpreter(tmp_path: Path):
    """An interpreter that runs the given program whatever it is told to run."""

    def make(program: str) -> str:
        script = tmp_path / "python"
        script.write_text(f"#!{sys.executable}\n{program}")
        script.chmod(0o755)
        return str(script)

    return make


@pytest.fixture
def launch() -> Launch:
    return Launch(PROFILES["mini"], "nothing", port=free_port())


def alive(group: int) -> list[int]:
    """Processes of the group that still run."""
    found = []
    for one in psutil.process_iter():
        try:
            if os.getpgid(one.pid) == group and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_it_is_stopped_with_everything_that_it_started(
    interpreter, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE", 0.5)
    with Server(launch, interpreter(GOOD), tmp_path / "log") as server:
        group = server.group
        assert server.running() and len(alive(group)) == 2
    assert alive(group) == []
    server.stop()  # twice is harmless


def test_one_that_ends_early_shows_its_last_words(interpreter, launch: Launch, tmp_path: Path) -> None:
    with (
        pytest.raises(GeneralistError, match="no kernel image"),
        Server(launch, interpreter(BROKEN), tmp_path / "log"),
    ):
        raise AssertionError("it never gets ready")


def test_one_that_is_never_ready_is_given_up_and_stopped(interpreter, launch: Launch, tmp_path: Path) -> None:
    server = Server(launch, interpreter(SILENT), tmp_path / "log", ready=1.5)
    with pytest.raises(GeneralistError, match="not ready"), server:
        raise AssertionError("it never gets ready")
    assert alive(server.group) == []


def test_the_caller_hears_how_it_gets_on(interpreter, launch: Launch, tmp_path: Path) -> None:
    heard: list[str] = []
    server = Server(
        launch,
        interpreter(SILENT),
        tmp_path / "log",
        ready=3.0,
        waiting=lambda seconds, line: heard.append(line),
    )
    with pytest.raises(GeneralistError), server:
        raise AssertionError("it never gets ready")
    assert "loading" in heard


@pytest.mark.parametrize("loading", [SILENT, STUBBORN])
def test_it_ends_when_the_one_that_started_it_is_killed(
    interpreter, launch: Launch, tmp_path: Path, loading: str
) -> None:
    program = (
        "import sys; from pathlib import Path; from gsco.models.serving.process import Server\n"
        "from gsco.models.serving.command import Launch; from gsco.models.serving.profiles import PROFILES\n"
        f"server = Server(Launch(PROFILES['mini'], 'x', port={launch.port}), {interpreter(loading)!r},"
        f" Path({str(tmp_path / 'log')!r}))\n"
        "server.start(); print(server.group, flush=True); server.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    group = int(parent.stdout.readline())
    assert alive(group)
    while "loading" not in (tmp_path / "log").read_text():
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(300):
        if not alive(group):
            return
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    raise AssertionError("it lives on")


def test_a_second_one_leaves_the_log_of_the_first_alone(interpreter, launch: Launch, tmp_path: Path) -> None:
    """While the first one loads nothing listens at its port yet."""
    first, log = Server(launch, interpreter(SILENT), tmp_path / "log"), tmp_path / "log"
    first.start()
    try:
        while "loading" not in first.tail():
            time.sleep(0.05)
        with pytest.raises(ConfigurationError, match=rf"port {launch.port} is starting or running.*{log}"):
            Server(launch, interpreter(SILENT), log).start()
        assert "loading" in first.tail()
    finally:
        first.stop()
    again = Server(launch, interpreter(BROKEN), log)
    again.start()
    again.wait()
    again.stop()
    assert "loading" not in again.tail() and "no kernel image" in again.tail()


def test_a_port_that_is_taken(interpreter, launch: Launch, tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", launch.port))
        taken.listen()
        with pytest.raises(ConfigurationError, match="--port"):
            Server(launch, interpreter(GOOD), tmp_path / "log").start()


def test_an_interpreter_without_vllm_is_refused_with_the_way_to_get_it() -> None:
    with pytest.raises(ConfigurationError, match="make vllm-cpu"):
        find_python("/bin/false")
    with pytest.raises(ConfigurationError, match="not a Python interpreter"):
        find_python("/no/such/python")
