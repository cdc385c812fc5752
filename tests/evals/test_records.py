from __future__ import annotations

from pathlib import Path

import pytest
from gsco._support.jsonl import JsonlLog, read_log
from gsco.errors import ConfigurationError
from gsco.evals.records import Outcome


def outcome(case: str, **fields: object) -> Outcome:
    given = {
        "task": "t",
        "task_version": "1",
        "arm": "vote",
        "configuration": "c",
        "group": "g",
        "truth": ("a",),
    }
    return Outcome.model_validate({**given, "case": case, **fields})


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    log = JsonlLog(tmp_path / "log.jsonl", Outcome)
    assert list(log) == []
    first = outcome("1", labels=("a",), probabilities={"a": 1.0}, seconds={"gate": 0.1})
    log.append([first, outcome("2", error="GeneralistError: gone")])
    log.append([])
    log.append([outcome("3")])
    assert [record.case for record in log] == ["1", "2", "3"]
    assert next(iter(log)) == first


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_line_that_a_kill_tore_is_cut_off(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "log.jsonl"
    JsonlLog(path, Outcome).append([outcome("1"), outcome("2")])
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:kept])
    assert [record.case for record in read_log(path, Outcome)] == ["1"]
    log = JsonlLog(path, Outcome)
    assert log.repaired == len(second[:kept])
    log.append([outcome("3")])
    assert [record.case for record in log] == ["1", "3"]


def test_a_file_that_is_one_torn_line_starts_empty(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"task": "' + b"x" * 200_000)
    log = JsonlLog(path, Outcome)
    assert log.repaired == 200_010
    assert list(log) == [] and path.stat().st_size == 0


def test_a_long_torn_line_is_cut_back_to_the_last_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    JsonlLog(path, Outcome).append([outcome("1")])
    with path.open("ab") as file:
        file.write(b"y" * 150_000)
    assert JsonlLog(path, Outcome).repaired == 150_000
    assert [record.case for record in read_log(path, Outcome)] == ["1"]


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    JsonlLog(path, Outcome).append([outcome("1")])
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(ConfigurationError, match=r"line 1 of log\.jsonl"):
        list(read_log(path, Outcome))


def test_right_means_exactly_the_true_labels() -> None:
    assert outcome("1", labels=("b", "a"), truth=("a", "b")).right
    assert not outcome("1", labels=("a",), truth=("a", "b")).right
    assert not outcome("1", labels=("a",), error="ImageError: gone").right
    assert outcome("1", truth=()).right
