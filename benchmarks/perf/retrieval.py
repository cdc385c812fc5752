"""Similar-case search in the embedded store, against one matrix product, plain Python and LanceDB."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...tools.stores.protocol import Entry, Exclusion, Filter, KnownCase, Vectors
from .timing import Race, print_table, race

if TYPE_CHECKING:
    from ...tools.stores.embedded import EmbeddedStore

SIZES = (3_000, 100_000)
WIDTH = 512
K = 10
QUERIES = 8
TASKS = 4
LIMIT = 2.0
"""Times the bare matrix product that a search of the largest store may take."""

PRODUCT = "numpy: product, argpartition"
STORE = "gsco"
NARROWED = "gsco, one task, patient excluded"
BATCH = f"gsco, {QUERIES} queries at once"
PYTHON = "loop in Python"
LANCE = "LanceDB, no index"
LANCE_NARROWED = "LanceDB, the same narrowed"
LANCE_INDEX = "LanceDB, IVF_FLAT"

IMPORTS = ("numpy", "gsco.tools.stores.embedded", "lancedb")


@dataclass(frozen=True)
class RetrievalBenchmark:
    """Synthetic cases around 500 centres, and queries near some of them."""

    vectors: Vectors
    queries: Vectors

    @classmethod
    def of(cls, n: int, width: int = WIDTH, seed: int = 0) -> RetrievalBenchmark:
        """Make n cases; a patient has three of them."""
        random = np.random.default_rng(seed)
        centres = random.standard_normal((500, width), dtype=np.float32)
        vectors = centres[random.integers(0, 500, n)]
        vectors += 0.5 * random.standard_normal((n, width), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        queries = vectors[:QUERIES] + 0.01 * random.standard_normal((QUERIES, width), dtype=np.float32)
        return cls(vectors, queries / np.linalg.norm(queries, axis=1, keepdims=True))

    def entries(self) -> Iterator[Entry]:
        """The cases as a store takes them."""
        for n, vector in enumerate(self.vectors):
            known = KnownCase(sha256=f"{n:064x}", task=f"task{n % TASKS}", labels=("x",), group=f"p{n // 3}")
            yield Entry(known, {"encoder": vector})


def contenders(bench: RetrievalBenchmark, folder: Path, stack: ExitStack) -> dict[str, Callable[[], object]]:
    """Name the ways of answering the queries one by one; stores are made in the folder."""
    from ...tools.stores.embedded import EmbeddedStore

    with EmbeddedStore(folder / "cases.sqlite") as made:
        made.add(bench.entries())
    store = stack.enter_context(EmbeddedStore(folder / "cases.sqlite", readonly=True))
    ways: dict[str, Callable[[], object]] = {
        PRODUCT: lambda: [np.argpartition(-(bench.vectors @ query), K)[:K] for query in bench.queries],
        STORE: lambda: [store.search(query[None], "encoder", K) for query in bench.queries],
        NARROWED: lambda: [_narrowed(store, query, n) for n, query in enumerate(bench.queries)],
        BATCH: lambda: store.search(bench.queries, "encoder", K),
    }
    if len(bench.vectors) <= SIZES[0]:
        ways[PYTHON] = _python(bench)
    if importlib.util.find_spec("lancedb"):
        ways |= _lance(bench, folder)
    return ways


def import_seconds(rounds: int = 5) -> Race:
    """Start a fresh process with each import in turns."""
    names = [name for name in IMPORTS if importlib.util.find_spec(name.partition(".")[0])]
    starts = {name: (sys.executable, "-W", "ignore", "-c", f"import {name}") for name in names}
    return race(
        {name: partial(subprocess.run, start, check=True) for name, start in starts.items()}, rounds=rounds
    )


def main() -> None:
    """Measure and print the tables."""
    reason = "" if importlib.util.find_spec("lancedb") else " LanceDB is left out: it is not installed."
    for n in SIZES:
        bench = RetrievalBenchmark.of(n)
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            result = race(contenders(bench, Path(folder), stack), rounds=5)
            first = _first_search(Path(folder) / "cases.sqlite", bench)
        print_table(
            f"Similar-case search, {n:,} cases of width {WIDTH}",
            ("search", "ms per query", "× the product's time"),
            [
                (name, f"{1000 * result.median(name) / QUERIES:.2f}", f"{result.speed(PRODUCT, name):.2f}")
                for name in result.seconds
            ],
            note=f"k = {K}, {QUERIES} queries one after another. Opening the store and the first search took "
            f"{first:.2f} s. "
            f"Limit at {SIZES[-1]:,} cases: {LIMIT} × the product.{reason}",
        )
    starts = import_seconds()
    print_table(
        "Import",
        ("import", "seconds", "× numpy's"),
        [
            (name, f"{starts.median(name):.3f}", f"{starts.speed('numpy', name):.2f}")
            for name in starts.seconds
        ],
        note="Fresh processes, Python's own start included.",
    )


def _narrowed(store: EmbeddedStore, query: Vectors, n: int) -> object:
    exclude = Exclusion(
        sha256s=frozenset([f"{n:064x}"]), groups=frozenset([f"p{n // 3}"]), above_similarity=0.99
    )
    return store.search(query[None], "encoder", K, where=Filter((f"task{n % TASKS}",)), exclude=[exclude])


def _first_search(path: Path, bench: RetrievalBenchmark) -> float:
    from ...tools.stores.embedded import EmbeddedStore

    start = time.perf_counter()
    with EmbeddedStore(path, readonly=True) as store:
        store.search(bench.queries[:1], "encoder", K)
        return time.perf_counter() - start


def _python(bench: RetrievalBenchmark) -> Callable[[], object]:
    known, queries = bench.vectors.tolist(), bench.queries.tolist()

    def search() -> None:
        for query in queries:
            scores = [sum(a * b for a, b in zip(query, vector, strict=True)) for vector in known]
            sorted(range(len(scores)), key=scores.__getitem__)[-K:]

    return search


def _lance(bench: RetrievalBenchmark, folder: Path) -> dict[str, Callable[[], object]]:
    """LanceDB with the same columns, and above 10,000 cases also with its index."""
    import lancedb  # pyright: ignore[reportMissingImports]
    import pyarrow as pa  # pyright: ignore[reportMissingImports]

    known = list(bench.entries())
    columns = {
        "id": [entry.case.id for entry in known],
        "sha256": [entry.case.sha256 for entry in known],
        "task": [entry.case.task for entry in known],
        "patient": [entry.case.group for entry in known],
        "labels": ["x" for _ in known],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(bench.vectors.ravel()), WIDTH),
    }
    database = lancedb.connect(folder / "lance")
    plain = database.create_table("plain", pa.table(columns))

    def search(table: object, n: int, condition: str = "", probes: int = 0) -> list[dict[str, object]]:
        query = table.search(bench.queries[n]).distance_type("cosine").limit(K)  # pyright: ignore[reportAttributeAccessIssue]
        query = query.where(condition, prefilter=True) if condition else query
        query = query.nprobes(probes) if probes else query
        return query.select(["id", "sha256", "task", "labels", "_distance"]).to_list()

    def condition(n: int) -> str:
        return f"task = 'task{n % TASKS}' AND patient != 'p{n // 3}' AND sha256 != '{n:064x}'"

    numbers = range(QUERIES)
    ways: dict[str, Callable[[], object]] = {
        LANCE: lambda: [search(plain, n) for n in numbers],
        LANCE_NARROWED: lambda: [search(plain, n, condition(n)) for n in numbers],
    }
    if len(known) > 10_000:
        from lancedb.index import IvfFlat  # pyright: ignore[reportMissingImports]

        indexed = database.create_table("indexed", pa.table(columns))
        indexed.create_index("vector", config=IvfFlat(distance_type="cosine", num_partitions=256))
        ways[LANCE_INDEX] = lambda: [search(indexed, n, probes=20) for n in numbers]
    return ways


if __name__ == "__main__":
    main()
