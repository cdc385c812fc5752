"""The way to a Weaviate cluster: one event loop for all stores, and the next host where one is silent."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from ...._support.background import BackgroundLoop
from ....errors import ConfigurationError, StoreError
from .address import Host, WeaviateAddress
from .failures import (
    DOWN,
    NO_GRPC,
    SILENT,
    STARTING,
    Unreachable,
    in_words,
    passing,
    theirs,
    timed_out,
    unreachable,
)

if TYPE_CHECKING:
    from weaviate import WeaviateAsyncClient

T = TypeVar("T")

PROBE_AFTER = 1.0
"""Seconds without an answer after which a server is asked whether it is there at all. The client would
try for a minute to reach a server that is not."""
_PROBE_EVERY = 10.0
_CONNECTING = 5.0
_CANCELLING = 1.0
_PAUSE, _LONGEST_TURN = 0.05, 0.5
_LONGEST_PAUSE = 30.0
_RETURN = 0.2
"""Seconds between looks at a server that was away."""


class Connection:
    """Runs work on a client of a cluster, whichever of its hosts answers.

    The clients' event loop runs in a thread of its own, so that any thread may call and many searches
    are under way at once. A host that gives no answer is left for the next one; where none does, the
    failure is repeated for a while without asking, so that a thousand cases do not wait a thousand
    times. The next call after that tries again, and at once where the server is seen to be back.

    Raises:
        ConfigurationError: the Weaviate client is not installed.
    """

    def __init__(self, address: WeaviateAddress, api_key: str = "") -> None:
        try:
            import weaviate  # noqa: F401
        except ImportError as error:
            raise ConfigurationError(
                "a case store in Weaviate needs its client: pip install 'gsco[weaviate]'"
            ) from error
        self.address = address
        self._api_key = api_key
        self._process = os.getpid()
        self._clients: dict[Host, WeaviateAsyncClient] = {}
        self._connecting: asyncio.Lock | None = None
        self._first = 0
        self._failure: tuple[str, float] | None = None
        self._returning: asyncio.Future[None] | None = None
        self._states: dict[Host, str] = {}
        self._closed = False
        self._finalizer = weakref.finalize(self, _disconnect, self._clients, self._process)

    def run(
        self,
        work: Callable[[WeaviateAsyncClient], Awaitable[T]],
        *,
        seconds: float | None = None,
        insist: bool = False,
        hosts: int | None = None,
    ) -> T:
        """Run work on a client and wait for its result. It may run again on another host.

        Args:
            work: takes a client; what it does must be harmless when it is done twice.
            seconds: to wait for an answer; None for the address's timeout.
            insist: ask the servers also where they have just failed.
            hosts: ask at most so many of the hosts; None for all.

        Raises:
            StoreError: no server answers, or one refuses.
        """
        if os.getpid() != self._process:
            raise StoreError(f"{self.address} was opened before fork; open it again in this process")
        if self._closed:
            raise StoreError(f"{self.address} is closed")
        if self._failure and not insist and time.monotonic() < self._failure[1]:
            raise StoreError(self._failure[0])
        return background_loop().run(self._run(work, seconds or self.address.timeout, hosts))

    def close(self) -> None:
        """Release the connections; closing twice is harmless."""
        self._closed = True
        self._finalizer()

    async def _run(
        self, work: Callable[[WeaviateAsyncClient], Awaitable[T]], seconds: float, most: int | None
    ) -> T:
        hosts, began, failures = self.address.hosts, time.monotonic(), []
        self._states.clear()
        for turn in range(most or len(hosts)):
            host = hosts[(self._first + turn) % len(hosts)]
            try:
                result = await self._answer_of(work, host, seconds)
            except Exception as error:
                if theirs(error) and not unreachable(error):
                    raise in_words(str(self.address), error) from error
                if not unreachable(error):
                    raise
                failures.append(str(await self._why(host, error, seconds)))
                if client := self._clients.pop(host, None):
                    await _close(client)
            else:
                self._first, self._failure = hosts.index(host), None
                return result
        message = "; ".join(failures)
        # A pause in proportion to what failing took: a hanging server takes up a third of the time at most.
        pause = min(_LONGEST_PAUSE, 2 * (time.monotonic() - began))
        self._failure = (message, time.monotonic() + pause)
        # A server that says that it is ready and still fails keeps the whole pause.
        away = all(self._states.get(host) for host in hosts)
        if away and (self._returning is None or self._returning.done()):
            self._returning = asyncio.ensure_future(self._until_back())
        raise Unreachable(message)

    async def _answer_of(
        self, work: Callable[[WeaviateAsyncClient], Awaitable[T]], host: Host, seconds: float
    ) -> T:
        """Work on one host, again where it answers what is gone a moment later."""
        end, pause = time.monotonic() + seconds, _PAUSE
        while True:
            try:
                client = await self._client(host)  # has a limit of its own
                return await self._watched(work(client), host, seconds)
            except Exception as error:
                if not passing(error) or time.monotonic() + pause > end:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_TURN)

    async def _watched(self, work: Awaitable[T], host: Host, seconds: float) -> T:
        """Wait for work, but not for a server that is not there."""
        task, end, pause = asyncio.ensure_future(work), time.monotonic() + seconds, PROBE_AFTER
        try:
            while True:
                await asyncio.wait({task}, timeout=min(pause, end - time.monotonic()))
                if task.done():
                    return task.result()
                if time.monotonic() >= end:
                    raise Unreachable(f"Weaviate at {host} {SILENT.format(seconds=seconds)}")
                probed = time.monotonic()
                if (state := await self._state(host)) not in ("", SILENT):
                    raise Unreachable(f"Weaviate at {host} {state}")
                # The server is given the whole time, without that of the probe.
                end, pause = end + time.monotonic() - probed, _PROBE_EVERY
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=_CANCELLING)

    async def _client(self, host: Host) -> WeaviateAsyncClient:
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if host not in self._clients:
                client = self._new_client(host)
                try:
                    await asyncio.wait_for(client.connect(), min(_CONNECTING, self.address.timeout))
                except BaseException:
                    await _close(client)
                    raise
                self._clients[host] = client
            return self._clients[host]

    def _new_client(self, host: Host) -> WeaviateAsyncClient:
        import weaviate
        from weaviate.classes.init import AdditionalConfig, Auth, Timeout

        secure, seconds = self.address.secure, self.address.timeout
        limits = Timeout(init=seconds, query=seconds, insert=max(60.0, seconds))
        return weaviate.use_async_with_custom(
            http_host=host.name,
            http_port=host.port,
            http_secure=secure,
            grpc_host=host.name,
            grpc_port=host.grpc_port,
            grpc_secure=secure,
            auth_credentials=Auth.api_key(self._api_key) if self._api_key else None,
            additional_config=AdditionalConfig(timeout=limits),
            # They would ask the internet for a newer client; the work itself shows what does not answer.
            skip_init_checks=True,
        )

    async def _why(self, host: Host, error: Exception, seconds: float) -> StoreError:
        if isinstance(error, Unreachable):
            return error
        state = await self._state(host)
        if state == SILENT or (not state and timed_out(error)):
            state = SILENT.format(seconds=seconds)
        return StoreError(f"Weaviate at {host} {state}") if state else in_words(f"Weaviate at {host}", error)

    async def _state(self, host: Host) -> str:
        """What the server says of itself over HTTP, and whether it speaks gRPC; empty if it is ready."""
        self._states[host] = state = await self._state_of(host)
        return state

    async def _state_of(self, host: Host) -> str:
        import grpc
        import httpx

        secure = self.address.secure
        try:
            async with httpx.AsyncClient(timeout=PROBE_AFTER, trust_env=False) as http:
                url = f"{'https' if secure else 'http'}://{host}/v1/.well-known/ready"
                if not (await http.get(url)).is_success:
                    return STARTING
        except httpx.ConnectError:
            return DOWN
        except httpx.HTTPError:
            return SILENT
        place, options = f"{host.name}:{host.grpc_port}", (("grpc.enable_http_proxy", 0),)
        if secure:
            channel = grpc.aio.secure_channel(place, grpc.ssl_channel_credentials(), options)
        else:
            channel = grpc.aio.insecure_channel(place, options)
        try:
            await asyncio.wait_for(channel.channel_ready(), 2 * PROBE_AFTER)
        except TimeoutError:
            return NO_GRPC.format(port=host.grpc_port)
        finally:
            await channel.close()
        return ""

    async def _until_back(self) -> None:
        """End the pause after a failure as soon as a server that was away answers again."""
        while self._failure and not self._closed and time.monotonic() < self._failure[1]:
            await asyncio.sleep(_RETURN)
            for host in self.address.hosts:
                if not await self._state(host):
                    self._failure = None
                    return


_LOOPS: dict[int, BackgroundLoop] = {}


def background_loop() -> BackgroundLoop:
    """The event loop of all connections of this process; gRPC wants to be in one loop only."""
    return _LOOPS.setdefault(os.getpid(), BackgroundLoop("gsco-weaviate"))


def _disconnect(clients: dict[Host, WeaviateAsyncClient], process: int) -> None:
    if os.getpid() != process or not clients:
        return
    left = list(clients.values())
    clients.clear()

    async def close() -> None:
        await asyncio.gather(*map(_close, left))

    with suppress(TimeoutError, RuntimeError):
        background_loop().submit(close()).result(timeout=5)


async def _close(client: WeaviateAsyncClient) -> None:
    # A connection that is broken already cannot be closed better.
    with suppress(Exception):
        await asyncio.wait_for(client.close(), 2.0)
