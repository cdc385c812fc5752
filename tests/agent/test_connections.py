"""Half-open, idle and stalled connections against a real server."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from gsco.agent.connections import ConnectionLimits, allow_open_files, server_options

pytestmark = pytest.mark.attack
REQUEST = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


async def app(scope, receive, send) -> None:
    size = 50_000_000 if scope["path"] == "/large" else 2
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
    await send({"type": "http.response.body", "body": b"x" * size})


@contextmanager
def serving(limits: ConnectionLimits) -> Iterator[Callable[[], socket.socket]]:
    options = {**server_options(limits), "lifespan": "off"}
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, **options))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
        assert thread.is_alive()
    address = server.servers[0].sockets[0].getsockname()
    opened: list[socket.socket] = []

    def connect() -> socket.socket:
        one = socket.create_connection(address, timeout=10)
        opened.append(one)
        return one

    try:
        yield connect
    finally:
        for one in opened:
            one.close()
        server.should_exit = True
        thread.join(20)


def answered(connection: socket.socket) -> bool:
    connection.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"\r\n\r\nxx"):  # header and body may come apart
        piece = connection.recv(4096)
        if not piece:
            return False
        answer += piece
    return b"200 OK" in answer


def closed_within(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):  # the rest of an answer
            pass
        return True
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HT", REQUEST[:-2]])
def test_a_header_that_never_ends_is_cut_off(sent):
    with serving(ConnectionLimits(header_seconds=0.5)) as connect:
        slow = connect()
        slow.sendall(sent)
        assert closed_within(slow, 5)


def test_a_header_that_drips_is_cut_off_at_the_same_time():
    with serving(ConnectionLimits(header_seconds=1)) as connect:
        slow, start = connect(), time.monotonic()
        with pytest.raises(OSError):
            for byte in REQUEST * 10:
                slow.sendall(bytes([byte]))
                time.sleep(0.1)
                slow.setblocking(False)
                try:
                    if slow.recv(1) == b"":
                        raise ConnectionResetError
                except BlockingIOError:
                    pass
                slow.settimeout(10)
        assert time.monotonic() - start < 4


def test_the_second_request_of_a_connection_has_the_same_limit():
    with serving(ConnectionLimits(header_seconds=2)) as connect:
        slow = connect()
        assert answered(slow)
        time.sleep(3)
        assert answered(slow), "an idle connection is kept"
        slow.sendall(b"GET")
        assert closed_within(slow, 20)


def test_fifteen_hundred_half_open_connections_do_not_keep_others_out():
    allow_open_files()
    with serving(ConnectionLimits(header_seconds=60, waiting=256)) as connect:
        half_open = [connect() for _ in range(1500)]
        for one in half_open:
            try:
                one.sendall(b"GET /")
            except OSError:
                continue  # it had to make room
        start = time.monotonic()
        assert answered(connect())
        assert time.monotonic() - start < 3
        time.sleep(0.5)
        ended = sum(closed_within(one, 0.001) for one in half_open[:1000])
        assert ended == 1000, "the oldest made room"


def test_an_answer_that_is_not_read_is_cut_off():
    with serving(ConnectionLimits(stalled_seconds=0.5)) as connect:
        lazy = connect()
        lazy.sendall(REQUEST.replace(b"/healthz", b"/large"))
        time.sleep(2)
        received = 0
        lazy.settimeout(5)
        try:
            while piece := lazy.recv(1 << 20):
                received += len(piece)
        except OSError:
            pass
        assert received < 50_000_000
        assert answered(connect())


HIDDEN = b"GET /hidden HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\ncontent-length: 50\r\n\r\n0\r\n\r\n",
        POST.replace(b"1.1", b"1.0") + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"content-length: 0\r\ncontent-length: 50\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"content-length: +0\r\n\r\n",
    ],
)
def test_a_request_whose_end_is_ambiguous_hides_no_other(request_):
    """One answer, a refusal, and the connection is closed: what follows is not read as a request."""
    with serving(ConnectionLimits()) as connect:
        one = connect()
        one.sendall(request_ + HIDDEN)
        answer = b""
        while piece := one.recv(4096):
            answer += piece
        assert answer.startswith(b"HTTP/1.1 400") and answer.count(b"HTTP/1.1") == 1


def test_an_ordinary_chunked_request_is_answered():
    with serving(ConnectionLimits()) as connect:
        one = connect()
        one.sendall(POST + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
        assert answered(one)
