"""Real Weaviate servers: the one that GSCO_TEST_WEAVIATE_URL names, or the ``weaviate-server`` on PATH."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

URL = "GSCO_TEST_WEAVIATE_URL"
HOW = (
    f"no Weaviate server: set {URL} (weaviate://HOST:PORT?grpc=PORT, for example of `docker compose up -d "
    "weaviate` with compose.yaml), or put a `weaviate-server` on PATH"
)
_RESTARTS = 3
HOW_OWN = "needs a `weaviate-server` on PATH that it may start, halt and stop: build Weaviate's Go program"


class Server:
    """One node on loopback, with its own ports and folder; it can be stopped, halted and started again."""

    def __init__(self, folder: Path, name: str = "node1", **environment: str) -> None:
        self.folder, self.name = folder, name
        self.port, self.grpc, self.gossip, self.raft, self.profiling = _free_ports()
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    def address(self, collection: str, options: str = "") -> str:
        return f"weaviate://{self.place}/{collection}?grpc={self.grpc}{options}"

    def start(self, *, wait: bool = True) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "true",
            "PERSISTENCE_DATA_PATH": str(self.folder / "data"),
            "CLUSTER_HOSTNAME": self.name,
            "CLUSTER_IN_LOCALHOST": "true",
            "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
            "CLUSTER_GOSSIP_BIND_PORT": str(self.gossip),
            "CLUSTER_DATA_BIND_PORT": str(self.gossip + 1),
            "RAFT_PORT": str(self.raft),
            "RAFT_INTERNAL_RPC_PORT": str(self.raft + 1),
            "RAFT_BOOTSTRAP_TIMEOUT": "60",
            "GRPC_PORT": str(self.grpc),
            "GO_PROFILING_PORT": str(self.profiling),
            "ENABLE_API_BASED_MODULES": "false",
            "ENABLE_MODULES": "backup-filesystem",
            "BACKUP_FILESYSTEM_PATH": str(self.folder / "backups"),
            "DISABLE_TELEMETRY": "true",
            "GOMEMLIMIT": "1GiB",
            "LOG_LEVEL": "warning",
            **self._environment,
        }
        command = ["weaviate-server", "--host", "127.0.0.1", "--port", str(self.port), "--scheme", "http"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder
            )
        if wait:
            self.wait()

    def wait(self, seconds: float = 150) -> None:
        """Wait until it is ready.

        A node of a busy cluster may give up joining it and end; it is started anew, as a supervisor would.
        """
        end, again = time.monotonic() + seconds, _RESTARTS
        while not self.ready():
            assert self._process is not None
            if self._process.poll() is not None and again:
                again -= 1
                self.start(wait=False)
            elif self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.1)

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.place}/v1/.well-known/ready", timeout=1):
                return True
        except OSError:
            return False

    def halt(self) -> None:
        """Let it hang: connections stay open and nothing is answered."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._send(signal.SIGKILL)
        self._wait_for_end()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.go_on()
            self._send(signal.SIGTERM)
            try:
                self._wait_for_end(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _wait_for_end(self, seconds: float = 20) -> None:
        assert self._process is not None
        self._process.wait(seconds)


def missing() -> str:
    """Why no server can be started here; empty if one can."""
    return "" if shutil.which("weaviate-server") else HOW_OWN


@contextmanager
def running(folder: Path, **environment: str) -> Iterator[Server]:
    """A server of one's own."""
    if why := missing():
        pytest.skip(why)
    server = Server(folder, **environment)
    server._environment.setdefault("RAFT_JOIN", "node1")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def cluster(folder: Path, size: int = 3) -> Iterator[list[Server]]:
    """Several nodes that know each other."""
    if why := missing():
        pytest.skip(why)
    nodes = [Server(folder / f"node{n}", f"node{n}") for n in range(1, size + 1)]
    join = ",".join(f"{node.name}:{node.raft}" for node in nodes)
    with ExitStack() as stack:
        for node in nodes:
            node._environment |= {
                "RAFT_JOIN": join,
                "RAFT_BOOTSTRAP_EXPECT": str(size),
                "CLUSTER_JOIN": "" if node is nodes[0] else f"127.0.0.1:{nodes[0].gossip}",
                "REPLICA_MOVEMENT_ENABLED": "false",
            }
            stack.callback(node.stop)
            node.start(wait=False)
        for node in nodes:
            node.wait()
        # A node that was away for long is no longer looked for: it joins the others by itself.
        nodes[0]._environment["CLUSTER_JOIN"] = ",".join(f"127.0.0.1:{node.gossip}" for node in nodes[1:])
        yield nodes


def _free_ports() -> tuple[int, int, int, int, int]:
    """Ports for HTTP, gRPC, gossip, raft and profiling; gossip and raft also take the one that follows."""
    found: list[int] = []
    for pairs in (1, 1, 2, 2, 1):
        while True:
            with socket.socket() as first, socket.socket() as second:
                first.bind(("127.0.0.1", 0))
                port = first.getsockname()[1]
                try:
                    if pairs == 2:
                        second.bind(("127.0.0.1", port + 1))
                except OSError:
                    continue
            if port not in found and port - 1 not in found and port + 1 not in found:
                found.append(port)
                break
    return tuple(found)  # pyright: ignore[reportReturnType]
