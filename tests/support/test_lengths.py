"""Lengths of vectors."""

import numpy as np
from gsco._support.lengths import lengths_of


def test_a_length_does_not_depend_on_where_the_vector_lies():
    vector = np.random.default_rng(0).normal(size=1280).astype(np.float32)
    room = np.empty(1280 + 16, np.float32)
    single, found = set(), set()
    for start in range(16):
        moved = room[start : start + 1280]
        moved[:] = vector
        single.add(float(np.linalg.norm(moved)))
        found.add(float(lengths_of(moved)[0]))
    assert len(found) == 1 and min(single) * (1 - 1e-6) < found.pop() < max(single) * (1 + 1e-6)


def test_rows_have_a_length_each():
    rows = np.array([[3, 4], [0, 0], [1, 0]], np.float16)
    assert lengths_of(rows).tolist() == [[5.0], [0.0], [1.0]] and lengths_of(rows).dtype == np.float32
