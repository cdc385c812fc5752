import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from gsco._support.batching import Batcher


class Machine:
    """A function that doubles, remembers its batches, and can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.running = self.most = 0
        self.open = threading.Event()
        self.open.set()
        self._lock = threading.Lock()

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        with self._lock:
            self.batches.append(list(items))
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.open.wait(10)
        with self._lock:
            self.running -= 1
        return [ValueError(f"{item} is negative") if item < 0 else 2 * item for item in items]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def batcher(function, **options) -> Batcher[int, int]:
    return Batcher(function, **{"max_batch": 8, **options})


def test_one_item_runs_at_once(machine):
    assert asyncio.run(batcher(machine)(21)) == 42
    assert machine.batches == [[21]]


def test_what_is_asked_together_runs_together_in_order(machine):
    async def scenario():
        double = batcher(machine)
        return await asyncio.gather(*(double(item) for item in range(20)))

    assert asyncio.run(scenario()) == [2 * item for item in range(20)]
    assert machine.batches == [list(range(8)), list(range(8, 16)), list(range(16, 20))]


def test_what_arrives_while_busy_gathers(machine):
    async def scenario():
        double = batcher(machine)
        machine.open.clear()
        tasks = [asyncio.create_task(double(0))]
        await until(lambda: machine.running == 1)
        for item in range(1, 6):
            tasks.append(asyncio.create_task(double(item)))
            await asyncio.sleep(0.002)
        assert machine.batches == [[0]]
        machine.open.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(scenario()) == [0, 2, 4, 6, 8, 10]
    assert machine.batches == [[0], [1, 2, 3, 4, 5]]


def test_concurrency_bounds_the_calls_at_a_time(machine):
    async def scenario():
        double = batcher(machine, max_batch=1, concurrency=3)
        machine.open.clear()
        tasks = [asyncio.create_task(double(item)) for item in range(9)]
        await until(lambda: machine.running == 3)
        await asyncio.sleep(0.02)
        assert len(machine.batches) == 3
        machine.open.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(scenario()) == [2 * item for item in range(9)]
    assert machine.most == 3


def test_the_loop_stays_free(machine):
    async def scenario():
        double = batcher(machine)
        machine.open.clear()
        task = asyncio.create_task(double(1))
        await until(lambda: machine.running == 1)
        started = time.perf_counter()
        await asyncio.sleep(0)
        assert time.perf_counter() - started < 5
        machine.open.set()
        return await task

    assert asyncio.run(scenario()) == 2


def test_an_exception_in_a_place_reaches_that_caller_only(machine):
    async def scenario():
        double = batcher(machine)
        return await asyncio.gather(*(double(item) for item in (1, -2, 3)), return_exceptions=True)

    first, failed, last = asyncio.run(scenario())
    assert (first, last) == (2, 6)
    assert isinstance(failed, ValueError)
    assert str(failed) == "-2 is negative"
    assert machine.batches == [[1, -2, 3]]


@pytest.mark.parametrize("error", [RuntimeError("broken"), StopIteration("odd"), KeyError("x")])
def test_an_exception_that_is_raised_reaches_all_of_the_batch_and_no_other(error):
    broken = True

    def function(items):
        if broken:
            raise error
        return list(items)

    async def scenario():
        nonlocal broken
        same = batcher(function)
        failed = await asyncio.gather(*(same(item) for item in range(3)), return_exceptions=True)
        broken = False
        return failed, await same(7)

    failed, later = asyncio.run(scenario())
    assert all(
        isinstance(item, RuntimeError if isinstance(error, StopIteration) else type(error)) for item in failed
    )
    assert later == 7


@pytest.mark.parametrize("wrong", [[], [1], [1, 2, 3]])
def test_a_wrong_number_of_results_is_an_error(wrong):
    async def scenario():
        function = batcher(lambda items: wrong)
        return await asyncio.gather(function(1), function(2), return_exceptions=True)

    assert all("results for 2 items" in str(error) for error in asyncio.run(scenario()))


def test_a_cancelled_caller_leaves_the_queue(machine):
    async def scenario():
        double = batcher(machine)
        machine.open.clear()
        running = asyncio.create_task(double(1))
        await until(lambda: machine.running == 1)
        waiting = [asyncio.create_task(double(item)) for item in (2, 3)]
        await asyncio.sleep(0.005)
        waiting[0].cancel()
        await asyncio.sleep(0)
        machine.open.set()
        assert await asyncio.gather(running, waiting[1]) == [2, 6]
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]

    asyncio.run(scenario())
    assert machine.batches == [[1], [3]]


def test_a_caller_cancelled_in_flight_harms_nobody(machine):
    async def scenario():
        double = batcher(machine)
        machine.open.clear()
        first, second = (asyncio.create_task(double(item)) for item in (1, 2))
        await until(lambda: machine.running == 1)
        first.cancel()
        machine.open.set()
        assert await second == 4
        assert await double(5) == 10

    asyncio.run(scenario())
    assert machine.batches == [[1, 2], [5]]


def test_a_loop_that_ends_in_the_middle_harms_nobody(machine, caplog):
    double = batcher(machine)

    async def impatient():
        machine.open.clear()
        async with asyncio.timeout(0.05):
            await double(1)

    with pytest.raises(TimeoutError):
        asyncio.run(impatient())
    machine.open.set()
    assert asyncio.run(double(4)) == 8
    assert caplog.records == []


def test_one_batcher_serves_loop_after_loop_and_keeps_none(machine):
    double = batcher(machine)
    loops = []

    async def scenario():
        loops.append(weakref.ref(asyncio.get_running_loop()))
        return await double(len(loops))

    assert [asyncio.run(scenario()) for _ in range(5)] == [2, 4, 6, 8, 10]
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 1


def test_one_batcher_serves_loops_in_several_threads(machine):
    double = batcher(machine, concurrency=2)

    async def scenario(start: int):
        return await asyncio.gather(*(double(item) for item in range(start, start + 50)))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda start: asyncio.run(scenario(start)), range(0, 400, 50)))
    assert [item for part in found for item in part] == [2 * item for item in range(400)]
    assert machine.most <= 2


def test_close_lets_the_running_finish_and_fails_the_waiting(machine):
    async def scenario():
        double = batcher(machine)
        machine.open.clear()
        running = asyncio.create_task(double(1))
        await until(lambda: machine.running == 1)
        waiting = asyncio.create_task(double(2))
        await asyncio.sleep(0.005)
        double.close()
        double.close()
        with pytest.raises(RuntimeError, match="closed"):
            await waiting
        machine.open.set()
        assert await running == 2
        with pytest.raises(RuntimeError, match="closed"):
            await double(3)

    asyncio.run(scenario())
    assert machine.batches == [[1]]


def test_close_in_the_turn_of_the_call(machine):
    async def scenario():
        double = batcher(machine)
        task = asyncio.create_task(double(1))
        await asyncio.sleep(0)
        double.close()
        with pytest.raises(RuntimeError, match="closed"):
            await task

    asyncio.run(scenario())
    assert machine.batches in ([], [[1]])


def test_close_after_its_loop(machine):
    double = batcher(machine)
    assert asyncio.run(double(1)) == 2
    double.close()


@pytest.mark.parametrize("options", [{"max_batch": 0}, {"concurrency": 0}])
def test_impossible_bounds(options):
    with pytest.raises(ValueError, match="at least 1"):
        batcher(list, **options)
