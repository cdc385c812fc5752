"""Case stores as they grow: recall, latency, import, memory and disk, against one exact product.

``python -m gsco.benchmarks.perf.stores [--sizes 10000 …] [--folder F] [--weaviate ADDRESS] [--server PID]``.
A store that is in the folder, or in Weaviate, is not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from ...tools.stores.protocol import CaseStore, Entry, Exclusion, Filter, Vectors
from .crowd import TASKS, Crowd
from .timing import print_table

if TYPE_CHECKING:
    from ...tools.stores.weaviate import WeaviateStore

SIZES = (10_000, 100_000)
K = 10
CLIENTS = 16
LIMIT_MS = 10.0
"""Milliseconds that the median search of the embedded store may take at 100,000 cases, on one core."""
RECALL = 0.99
GROWTH = 2.0
"""Times that the median search may take at ten times as many cases."""

PRODUCT, EMBEDDED, WEAVIATE = "numpy product", "embedded", "Weaviate"
NARROWED = ", narrowed"

Search = Callable[[int], list[str]]
"""The number of a query to the ids that are found."""


@dataclass(frozen=True)
class Bed:
    """What is searched: known cases, queries, and what they must find."""

    name: str
    encoder: str
    matrix: Vectors
    queries: Vectors
    exclude: Sequence[Exclusion]
    truth: Sequence[frozenset[str]]
    entries: Callable[[], Iterator[Entry]]
    narrowed: Sequence[tuple[Filter, Exclusion, frozenset[str]]] = ()
    """For each query a narrower search: one task, without a case and its patient."""


@dataclass(frozen=True)
class Measured:
    """One way of searching one bed."""

    recall: float
    alone: Sequence[float]
    """Seconds of each search, one client."""
    together: Sequence[float]
    """The same with 16 clients at once."""
    rate: float
    """Searches a second of those 16."""
    processor: float
    """Median seconds of processor time of one search in this process; a busy machine hardly changes it."""

    def row(self) -> tuple[str, ...]:
        """For the table."""
        both = (self.alone, self.together)
        latencies = (f"{1000 * np.quantile(seconds, q):.2f}" for seconds in both for q in (0.5, 0.95))
        return (f"{self.recall:.4f}", *latencies, f"{self.rate:.0f}", f"{1000 * self.processor:.2f}")


def crowded(n: int, folder: Path) -> Bed:
    """A synthetic bed of n cases around 500 centres."""
    crowd = Crowd(n, folder)
    truth, of_task = crowd.nearest(K), crowd.nearest(K + 4, task=0)
    matrix = crowd.vectors
    narrowed = []
    for query, numbers in zip(crowd.queries, of_task, strict=True):
        order = numbers[np.argsort(-(matrix[numbers] @ query))]
        nearest = int(order[0])
        exclude = Exclusion(frozenset([crowd.case(nearest).sha256]), frozenset([crowd.case(nearest).group]))
        left = [m for m in order.tolist() if m // 3 != nearest // 3][:K]
        narrowed.append((Filter((f"task{0 % TASKS}",)), exclude, frozenset(crowd.case(m).id for m in left)))
    return Bed(
        name=f"{n:,} cases of width {matrix.shape[1]}",
        encoder="encoder",
        matrix=matrix,
        queries=crowd.queries,
        exclude=[Exclusion()] * len(crowd.queries),
        truth=[frozenset(crowd.case(int(number)).id for number in numbers) for numbers in truth],
        entries=crowd.entries,
        narrowed=narrowed,
    )


def bundled(home: Path, queries: int = 200) -> Bed:
    """The bundled bank of real cases; each query is one of them and must not find itself or its patient."""
    from ...tools.retrieval import SHARED_ENCODER
    from ...tools.stores import open_store

    store = open_store("", home=home)
    entries = list(store.scan())
    store.close()
    matrix = np.stack([entry.vectors[SHARED_ENCODER] for entry in entries])
    chosen = np.random.default_rng(0).choice(len(entries), queries, replace=False)
    excluded, truth = [], []
    for n in chosen.tolist():
        own = entries[n].case
        excluded.append(Exclusion(frozenset([own.sha256]), frozenset(filter(None, [own.group]))))
        scores = matrix @ matrix[n]
        out = [
            m
            for m, entry in enumerate(entries)
            if entry.case.sha256 == own.sha256 or (own.group and entry.case.group == own.group)
        ]
        scores[out] = -np.inf
        truth.append(frozenset(entries[m].case.id for m in np.argsort(-scores)[:K]))
    return Bed(
        name=f"the bundled bank, {len(entries):,} cases of width {matrix.shape[1]}",
        encoder=SHARED_ENCODER,
        matrix=matrix,
        queries=matrix[chosen],
        exclude=excluded,
        truth=truth,
        entries=lambda: iter(entries),
    )


def filled(store: CaseStore, bed: Bed) -> float | None:
    """Fill a store, unless that was done; cases a second, None if nothing was to do."""
    missing = len(bed.matrix) - store.count()
    start = time.perf_counter()
    if missing:
        store.add(bed.entries())
    return missing / (time.perf_counter() - start) if missing else None


def searches(bed: Bed, stores: Mapping[str, CaseStore]) -> dict[str, tuple[Search, Sequence[frozenset[str]]]]:
    """The ways of searching a bed, and what each must find; the product finds numbers of rows only."""
    ways: dict[str, tuple[Search, Sequence[frozenset[str]]]] = {PRODUCT: (_product(bed), ())}
    for name, store in stores.items():
        ways[name] = (_plain(store, bed), bed.truth)
        if bed.narrowed:
            ways[name + NARROWED] = (_narrow(store, bed), [found for *_, found in bed.narrowed])
    return ways


def measure(bed: Bed, ways: Mapping[str, tuple[Search, Sequence[frozenset[str]]]]) -> dict[str, Measured]:
    """Search with each way in turns, query by query; then with 16 clients at once."""
    numbers = range(len(bed.queries))
    for search, _ in ways.values():
        for n in numbers:
            search(n)
    alone: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    right = dict.fromkeys(ways, 0)
    for n in numbers:
        for name, (search, truth) in ways.items():
            start, worked = time.perf_counter(), time.process_time()
            found = search(n)
            alone[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - worked)
            right[name] += len(truth[n] & set(found)) if truth else K
    together = {name: _together(search, len(numbers)) for name, (search, _) in ways.items()}
    return {
        name: Measured(
            right[name] / (K * len(numbers)),
            alone[name],
            *together[name],
            statistics.median(processor[name]),
        )
        for name in ways
    }


def resident(path: Path, encoder: str, width: int) -> float:
    """Megabytes that a fresh process has of its own once it has searched an embedded store."""
    module = f"{__package__}.stores"
    command = [sys.executable, "-m", module, "--resident", str(path), encoder, str(width)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout))


def main(arguments: Sequence[str] | None = ()) -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--folder", type=Path, help="where stores are kept for another run")
    parser.add_argument("--weaviate", metavar="ADDRESS", help="a server, without a collection")
    parser.add_argument("--server", type=int, metavar="PID", help="its process, whose memory is told")
    parser.add_argument("--data", type=Path, help="its folder, whose size is told")
    parser.add_argument("--bank", action="store_true", help="the bundled bank too")
    parser.add_argument("--resident", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.resident:
        print(_resident(*asked.resident))
        return
    with TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        beds = [("bank", lambda: bundled(folder))] if asked.bank else []
        beds += [(str(n), lambda n=n: crowded(n, folder)) for n in asked.sizes]
        medians = {}
        for key, make in beds:
            medians[key] = _report(key, make(), folder, asked)
    _growth(medians)


def _report(key: str, bed: Bed, folder: Path, asked: argparse.Namespace) -> float:
    from ...tools.stores.embedded import EmbeddedStore

    path = folder / f"embedded-{key}.sqlite"
    rates: dict[str, float | None] = {}
    with ExitStack() as stack:
        stores: dict[str, CaseStore] = {EMBEDDED: stack.enter_context(EmbeddedStore(path))}
        if asked.weaviate:
            stores[WEAVIATE] = stack.enter_context(_weaviate(asked.weaviate, key))
        for name, store in stores.items():
            rates[name] = filled(store, bed)
        measured = measure(bed, searches(bed, stores))
    memory = {EMBEDDED: resident(path, bed.encoder, bed.matrix.shape[1])}
    disk = {EMBEDDED: _size(path)}
    if asked.server:
        memory[WEAVIATE] = _memory_of(asked.server)
    if asked.data:
        disk[WEAVIATE] = _size(asked.data)
    product = statistics.median(measured[PRODUCT].alone)
    print_table(
        f"Case stores: {bed.name}",
        ("search", "recall", "p50", "p95", "p50 of 16", "p95 of 16", "a second", "processor", "× product"),
        [
            (name, *found.row(), f"{statistics.median(found.alone) / product:.2f}")
            for name, found in measured.items()
        ],
        note=f"k = {K}, {len(bed.queries)} queries, milliseconds: one client, then {CLIENTS} at once, "
        "and this process's own processor time of one search. "
        f"Narrowed: one task of {TASKS}, without a case and its patient. "
        f"Limits for the embedded store: recall {RECALL}, {LIMIT_MS:.0f} ms at 100,000 cases.",
    )
    print_table(
        "What it takes",
        ("store", "cases a second in", "MB of memory", "MB on disk"),
        [(name, _number(rates[name]), _number(memory.get(name)), _number(disk.get(name))) for name in stores],
        note="Import with the index, on whatever else the machine does. Weaviate's memory and disk are those "
        "of its process and folder, with all their collections.",
    )
    return statistics.median(measured[EMBEDDED].alone)


def _number(number: float | None) -> str:
    return "" if number is None else f"{number:.0f}"


def _growth(medians: Mapping[str, float]) -> None:
    sizes = sorted(int(key) for key in medians if key.isdigit())
    for small, large in pairwise(sizes):
        ratio = medians[str(large)] / medians[str(small)]
        limit = f" (limit {GROWTH:.0f})" if large == 10 * small >= 1_000_000 else ""
        print(f"embedded, from {small:,} to {large:,} cases: {ratio:.2f} times the median time{limit}")


def _weaviate(base: str, key: str) -> WeaviateStore:
    from ...tools.stores.weaviate import WeaviateStore, parse_address

    address = parse_address(base)
    return WeaviateStore(address.model_copy(update={"collection": f"Perf{key}"}))


def _product(bed: Bed) -> Search:
    def search(n: int) -> list[str]:
        np.argpartition(-(bed.matrix @ bed.queries[n]), K)[:K]
        return []

    return search


def _plain(store: CaseStore, bed: Bed) -> Search:
    def search(n: int) -> list[str]:
        exclude = [bed.exclude[n]]
        return [case.id for case in store.search(bed.queries[n][None], bed.encoder, K, exclude=exclude)[0]]

    return search


def _narrow(store: CaseStore, bed: Bed) -> Search:
    def search(n: int) -> list[str]:
        where, exclude, _ = bed.narrowed[n]
        query = bed.queries[n][None]
        return [case.id for case in store.search(query, bed.encoder, K, where=where, exclude=[exclude])[0]]

    return search


def _together(search: Search, number: int) -> tuple[list[float], float]:
    def timed(n: int) -> float:
        start = time.perf_counter()
        search(n)
        return time.perf_counter() - start

    with ThreadPoolExecutor(CLIENTS) as pool:
        start = time.perf_counter()
        seconds = list(pool.map(timed, range(number)))
        return seconds, number / (time.perf_counter() - start)


def _resident(path: str, encoder: str, width: str) -> float:
    from ...tools.stores.embedded import EmbeddedStore

    before = _memory_of(None)
    queries = np.random.default_rng(0).standard_normal((20, int(width)), dtype=np.float32)
    with EmbeddedStore(path, readonly=True) as store:
        for query in queries / np.linalg.norm(queries, axis=1, keepdims=True):
            store.search(query[None], encoder, K)
        return _memory_of(None) - before


def _memory_of(process: int | None) -> float:
    import psutil

    return psutil.Process(process).memory_full_info().uss / 1e6


def _size(path: Path) -> float:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


if __name__ == "__main__":
    main(None)
