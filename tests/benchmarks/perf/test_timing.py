from __future__ import annotations

import time

import pytest
from gsco.benchmarks.perf.timing import Race, print_table, race


def test_contenders_take_turns_in_alternating_order() -> None:
    calls: list[str] = []
    result = race({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, warmup=1)
    assert "".join(calls) == "abbaabba"
    assert [len(seconds) for seconds in result.seconds.values()] == [3, 3]


def test_time_is_what_passed() -> None:
    result = race({"slow": lambda: time.sleep(0.02), "none": lambda: None}, rounds=2, warmup=0)
    assert 0.02 <= result.median("slow") < 0.2
    assert result.speed("none", "slow") > 10


def test_a_ratio_is_taken_inside_a_round() -> None:
    result = Race({"a": [1.0, 10.0, 100.0], "b": [2.0, 20.0, 200.0]})
    assert result.speed("a", "b") == 2.0
    assert result.speed("b", "a") == 0.5


def test_a_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Speed", ("what", "seconds"), [("a [x]", "0.1")], note="as seen here")
    printed = capsys.readouterr().out
    assert "a [x]" in printed and "0.1" in printed and "as seen here" in printed
