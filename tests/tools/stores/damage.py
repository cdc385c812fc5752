"""Random damage to the file of a case store, and what the store then makes of it.

A longer run than the tests': ``python -m tests.tools.stores.damage 5888``, in the root of the repository.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gsco.errors import StoreError
from gsco.tools.stores.embedded import EmbeddedStore
from gsco.tools.stores.protocol import Entry, Exclusion, Filter, KnownCase

WIDTH = 24
CASES = 240
Random = np.random.Generator


def make_store(path: Path) -> None:
    """240 cases of two tasks and three modalities, in groups of three, with two encoders and thumbnails."""
    random = np.random.default_rng(3)
    vectors = random.normal(size=(2, CASES, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    with EmbeddedStore(path) as store:
        store.add(
            Entry(
                KnownCase(
                    sha256=random.bytes(32).hex(),
                    task=("chest", "skin")[n % 2],
                    modality=("CT", "MR", "US")[n % 3],
                    labels=(f"label {n % 5}",),
                    group=f"patient {n // 3}",
                    report=f"report {n} " * 8,
                ),
                {"one": vectors[0, n], "two": vectors[1, n]} if n % 4 else {"one": vectors[0, n]},
                random.bytes(300),
            )
            for n in range(CASES)
        )
        store.seal()


def answers(path: Path) -> list[Any]:
    """What a program may ask of a store, with the answers."""
    queries = np.random.default_rng(5).normal(size=(12, WIDTH)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    with EmbeddedStore(path, readonly=True) as store:
        known = list(store.scan())
        excluded = [
            Exclusion(groups=(known[n].case.group,), sha256s=(known[n + 1].case.sha256,)) for n in range(12)
        ]
        return [
            store.count(),
            store.tasks(),
            store.encoders(),
            [
                (entry.case, entry.thumbnail, {k: v.tobytes() for k, v in entry.vectors.items()})
                for entry in known
            ],
            store.search(queries, "one", 6),
            store.search(queries, "two", 6, where=Filter(tasks=("skin",), modalities=("CT", "US"))),
            store.search(queries, "one", 6, exclude=excluded),
            [store.thumbnail(entry.case.id) for entry in known[:9]],
        ]


def _flip(file: bytearray, random: Random) -> None:
    file[random.integers(len(file))] ^= 1 << int(random.integers(8))


def _bytes(file: bytearray, random: Random) -> None:
    start, length = int(random.integers(len(file))), int(random.integers(1, 64))
    file[start : start + length] = random.bytes(len(file[start : start + length]))


def _zeros(file: bytearray, random: Random) -> None:
    start, length = int(random.integers(len(file))), int(random.integers(1, 5000))
    file[start : start + length] = bytes(len(file[start : start + length]))


def _cut(file: bytearray, random: Random) -> None:
    del file[int(random.integers(len(file))) :]


def _page(file: bytearray, random: Random) -> None:
    """A page in the place of another: a write that went astray."""
    size = 16384
    source, target = (int(page) * size for page in random.integers(len(file) // size, size=2))
    file[target : target + size] = file[source : source + size]


def _swapped(file: bytearray, random: Random) -> None:
    """Two runs of bytes that changed places."""
    length = int(random.integers(8, 600))
    one, other = (int(start) for start in random.integers(len(file) - length, size=2))
    file[one : one + length], file[other : other + length] = (
        file[other : other + length],
        file[one : one + length],
    )


def _head(file: bytearray, random: Random) -> None:
    """The first bytes of a page: its kind, its number of cells and where they lie."""
    start = int(random.integers(len(file) // 16384)) * 16384 + int(random.integers(64))
    file[start] = int(random.integers(256))


DAMAGES: tuple[Callable[[bytearray, Random], None], ...] = (
    _flip,
    _bytes,
    _zeros,
    _cut,
    _page,
    _swapped,
    _head,
)


def outcome(whole: bytes, expected: list[Any], folder: Path, seed: int) -> str:
    """Damage a copy of the file and ask it everything."""
    random = np.random.default_rng(seed)
    file = bytearray(whole)
    DAMAGES[seed % len(DAMAGES)](file, random)
    path = folder / f"{seed}.sqlite"
    path.write_bytes(file)
    try:
        return "same" if answers(path) == expected else "different"
    except StoreError as error:
        return (
            "refused"
            if str(path) in str(error) or "no vectors of encoder" in str(error)
            else f"unclear: {error}"
        )
    except Exception as error:
        return f"untyped: {type(error).__name__}: {error}"
    finally:
        for left in folder.glob(f"{seed}.sqlite*"):
            left.unlink()


def main(number: int) -> None:
    """Print how many of a number of damaged files had which outcome."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_store(folder / "whole.sqlite")
        expected, whole = answers(folder / "whole.sqlite"), (folder / "whole.sqlite").read_bytes()
        print(Counter(outcome(whole, expected, folder, seed) for seed in range(number)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
