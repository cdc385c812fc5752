"""Natural batching: many callers on an event loop, one function that likes batches, in a thread.

What is asked for while nothing runs starts at once, together with everything else that was asked for in
the same turn of the loop. What arrives while the function is busy gathers and forms the next batch. So
there is no waiting time to tune: batches are small under light load and full under heavy load.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Call ``function`` in a thread of its own, in batches.

    Each event loop has a queue of its own, so that one batcher serves several loops, one after the other
    or in several threads at once; they share the threads.

    Args:
        function: takes a list of items and returns as many results, in order. An exception in the place
            of a result is raised to the caller of that item; one that is raised goes to all of the batch.
        max_batch: at most so many items per call.
        concurrency: at most so many calls at a time.
    """

    def __init__(
        self,
        function: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        max_batch: int,
        concurrency: int = 1,
    ) -> None:
        if max_batch < 1 or concurrency < 1:
            raise ValueError("max_batch and concurrency must be at least 1")
        self._function = function
        self._max_batch = max_batch
        self._concurrency = concurrency
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="gsco-batch")
        self._lanes: dict[asyncio.AbstractEventLoop, _Lane[Item, Result]] = {}
        self._lock = threading.Lock()
        self._closed = False

    async def __call__(self, item: Item) -> Result:
        """Return the function's result for one item.

        A caller that is cancelled before its batch starts costs nothing.

        Raises:
            RuntimeError: the batcher is closed, or the function returned too few or too many results.
            Exception: whatever the function raised or returned for the item.
        """
        lane = self._lane(asyncio.get_running_loop())
        waiter: asyncio.Future[Result] = lane.loop.create_future()
        lane.waiting.append((item, waiter))
        lane.loop.call_soon(self._start, lane)
        return await waiter

    def close(self) -> None:
        """Let running batches finish and fail what waits. A closed batcher takes no more items."""
        with self._lock:
            self._closed = True
            lanes = list(self._lanes.values())
        self._pool.shutdown(wait=False)
        for lane in lanes:
            with suppress(RuntimeError):  # its loop is closed, and nobody waits
                lane.loop.call_soon_threadsafe(lane.abandon)

    def _lane(self, loop: asyncio.AbstractEventLoop) -> _Lane[Item, Result]:
        with self._lock:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            if loop not in self._lanes:
                self._lanes = {loop: lane for loop, lane in self._lanes.items() if not loop.is_closed()}
                self._lanes[loop] = _Lane(loop)
            return self._lanes[loop]

    def _start(self, lane: _Lane[Item, Result]) -> None:
        """Hand out batches while there are items and free threads."""
        while lane.running < self._concurrency and (batch := lane.take(self._max_batch)):
            lane.running += 1
            try:
                call = self._pool.submit(self._run, [item for item, _ in batch])
            except RuntimeError:
                lane.waiting.extendleft(reversed(batch))
                return lane.abandon()
            call.add_done_callback(lambda call, batch=batch: self._report(lane, batch, call))

    def _run(self, items: list[Item]) -> Sequence[Result | Exception]:
        results = self._function(items)
        if len(results) != len(items):
            raise RuntimeError(f"the batched function returned {len(results)} results for {len(items)} items")
        return results

    def _report(
        self,
        lane: _Lane[Item, Result],
        batch: _Batch[Item, Result],
        call: Future[Sequence[Result | Exception]],
    ) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile, and nobody waits
            lane.loop.call_soon_threadsafe(self._finish, lane, batch, call)

    def _finish(
        self,
        lane: _Lane[Item, Result],
        batch: _Batch[Item, Result],
        call: Future[Sequence[Result | Exception]],
    ) -> None:
        lane.running -= 1
        failure = call.exception()
        results = [failure] * len(batch) if failure else call.result()
        for (_, waiter), result in zip(batch, results, strict=True):
            if waiter.done():
                continue
            if isinstance(result, BaseException):
                waiter.set_exception(_settable(result))
            else:
                waiter.set_result(result)
        self._start(lane)


_Batch = list[tuple[Item, "asyncio.Future[Result]"]]


class _Lane(Generic[Item, Result]):
    """What waits and runs on behalf of one event loop; touched by that loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self.running = 0

    def take(self, limit: int) -> _Batch[Item, Result]:
        """The next items whose callers still wait."""
        batch: _Batch[Item, Result] = []
        while self.waiting and len(batch) < limit:
            item, waiter = self.waiting.popleft()
            if not waiter.done():
                batch.append((item, waiter))
        return batch

    def abandon(self) -> None:
        for _, waiter in self.take(len(self.waiting)):
            waiter.set_exception(RuntimeError("the batcher was closed before the item's turn"))


def _settable(error: BaseException) -> BaseException:
    # A future cannot carry StopIteration.
    return (
        RuntimeError("the batched function raised StopIteration")
        if isinstance(error, StopIteration)
        else error
    )
