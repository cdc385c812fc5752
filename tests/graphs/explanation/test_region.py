import numpy as np
import pytest
from gsco.graphs.explanation.region import focus


@pytest.mark.parametrize(
    ("row", "column", "words"),
    [
        (5, 8, "upper left part"),
        (45, 50, "centre"),
        (95, 92, "lower right part"),
        (50, 3, "middle left part"),
    ],
)
def test_the_place_of_the_hottest_part(row, column, words):
    heat = np.zeros((100, 100), np.float32)
    heat[row - 2 : row + 3, column - 2 : column + 3] = 1.0
    heat[50, 50] = max(heat[50, 50], 0.3)
    assert focus(heat) == words


def test_a_map_without_heat_has_no_place():
    assert focus(np.zeros((8, 8), np.float32)) is None
