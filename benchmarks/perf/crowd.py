"""Many synthetic cases whose vectors lie on disk, so that a million of them need no memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...tools.stores.protocol import Entry, KnownCase, Vectors

WIDTH = 512
TASKS = 4
CLUSTERS = 500
NOISE = 0.5
_AT_ONCE = 10_000


class Crowd:
    """n cases around 500 centres, always the same ones; the first m of a larger crowd are those of a smaller.

    Args:
        n: how many.
        folder: where their vectors are kept, at single precision.
        queries: how many queries lie near some of them.
    """

    def __init__(self, n: int, folder: Path, *, queries: int = 200) -> None:
        self.n = n
        self._path = folder / f"crowd-{n}.npy"
        if not self._path.exists():
            self._write()
        self.vectors: Vectors = np.load(self._path, mmap_mode="r")
        random = np.random.default_rng(1)
        near = np.asarray(self.vectors[np.sort(random.choice(n, queries, replace=False))], np.float32)
        self.queries = _unit(near + 0.01 * random.standard_normal(near.shape, dtype=np.float32))

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The cases as a store takes them; a patient has three of them."""
        for at in range(start, self.n, _AT_ONCE):
            for n, vector in enumerate(np.array(self.vectors[at : at + _AT_ONCE]), at):
                yield Entry(self.case(n), {"encoder": vector})

    def case(self, n: int) -> KnownCase:
        """The case of a number."""
        return KnownCase(sha256=f"{n:064x}", task=f"task{n % TASKS}", labels=("x",), group=f"p{n // 3}")

    def nearest(self, k: int, *, task: int | None = None) -> npt.NDArray[np.int64]:
        """The numbers of the k nearest cases of each query, by one exact product, in no order."""
        best = np.empty((len(self.queries), 0), np.float32)
        numbers = np.empty((len(self.queries), 0), np.int64)
        for at in range(0, self.n, _AT_ONCE):
            block = np.arange(at, min(self.n, at + _AT_ONCE))
            if task is not None:
                block = block[block % TASKS == task]
            scores = np.concatenate([best, self.queries @ self.vectors[block].T], axis=1)
            both = np.concatenate([numbers, np.broadcast_to(block, (len(self.queries), len(block)))], axis=1)
            top = np.argpartition(-scores, k, axis=1)[:, :k]
            best, numbers = np.take_along_axis(scores, top, 1), np.take_along_axis(both, top, 1)
        return numbers

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".part")
        centres = np.random.default_rng(0).standard_normal((CLUSTERS, WIDTH), dtype=np.float32)
        vectors = np.lib.format.open_memmap(unfinished, "w+", np.float32, (self.n, WIDTH))
        for at in range(0, self.n, _AT_ONCE):
            # A seed for each block: the first ones are the same whatever n is.
            random = np.random.default_rng((2, at))
            block = centres[random.integers(0, CLUSTERS, _AT_ONCE)]
            block += NOISE * random.standard_normal(block.shape, dtype=np.float32)
            vectors[at : at + _AT_ONCE] = _unit(block)[: self.n - at]
        vectors.flush()
        unfinished.rename(self._path)


def _unit(vectors: npt.NDArray[np.floating]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
