"""What is there before long work is spared, and given back to the collector behind it."""

from __future__ import annotations

import gc

import pytest
from gsco._support.gc import frozen_objects


def test_what_was_there_is_spared_for_the_time_of_the_block() -> None:
    before = len(gc.get_objects())
    with frozen_objects():
        assert len(gc.get_objects()) < before / 10
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        assert gc.collect() >= 1, "what comes later is collected as ever"
    assert gc.get_freeze_count() == 0
    with pytest.raises(ValueError, match="x"), frozen_objects():
        raise ValueError("x")
    assert gc.get_freeze_count() == 0
