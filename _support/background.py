"""One event loop in a thread of its own, so that blocking callers and others' loops share one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar
from weakref import WeakSet

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines in a daemon thread, from the first use until ``close``.

    Batches gather across all callers, and connections are shared, because everything runs in this one loop.

    Args:
        name: of the thread, and of what is closed in the error that says so.
    """

    def __init__(self, name: str = "this GSCo") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._submitted: WeakSet[Coroutine[object, None, object]] = WeakSet()

    def submit(self, coroutine: Coroutine[object, None, T]) -> Future[T]:
        """Start a coroutine; the future is done when it is. Cancelling the future cancels it.

        Raises:
            RuntimeError: it was closed.
        """
        with self._lock:
            if self._closed:
                coroutine.close()
                raise RuntimeError(f"{self._name} is closed; make a new one")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name=self._name, daemon=True
                )
                self._thread.start()
            self._submitted.add(coroutine)
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[object, None, T]) -> T:
        """Run a coroutine and wait for its result; an interrupt of the waiting cancels it."""
        future = self.submit(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def stream(self, items: AsyncIterator[T]) -> AsyncGenerator[T]:
        """Hand on what an iterator of this loop yields to whichever loop asks; closing it stops it there."""
        here, arrived = asyncio.get_running_loop(), asyncio.Queue[tuple[T] | None]()

        async def pump() -> None:
            try:
                async for item in items:
                    here.call_soon_threadsafe(arrived.put_nowait, (item,))
            finally:
                with suppress(RuntimeError):  # the loop that asked may be closed by now
                    here.call_soon_threadsafe(arrived.put_nowait, None)

        pumping = asyncio.wrap_future(self.submit(pump()))
        try:
            while (item := await arrived.get()) is not None:
                yield item[0]
            await pumping
        finally:
            pumping.cancel()

    def close(self, last: Callable[[], Coroutine[object, None, object]] | None = None) -> None:
        """Cancel what still runs and end the thread; closing twice is harmless.

        Args:
            last: run last, to close what belongs to the loop.
        """
        loop, thread = self._end()
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._finish(last), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    def abandon(self, last: Callable[[], Coroutine[object, None, object]]) -> None:
        """The same without waiting, for finalizers, which may run in any thread at any time."""
        loop, _ = self._end()
        if loop is not None and not loop.is_closed():
            done = asyncio.run_coroutine_threadsafe(self._finish(last), loop)
            done.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))

    def _end(self) -> tuple[asyncio.AbstractEventLoop | None, threading.Thread | None]:
        with self._lock:
            self._closed, loop, thread = True, self._loop, self._thread
            self._loop = self._thread = None
        return loop, thread

    async def _finish(self, last: Callable[[], Coroutine[object, None, object]] | None) -> None:
        """End what was submitted, then what it was done with: a pool of connections has tasks of its own."""
        await _cancelled(task for task in asyncio.all_tasks() if task.get_coro() in self._submitted)
        if last is not None:
            await last()
        await _cancelled(task for task in asyncio.all_tasks() if task is not asyncio.current_task())
        loop = asyncio.get_running_loop()
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


async def _cancelled(tasks: Iterable[asyncio.Task[object]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
