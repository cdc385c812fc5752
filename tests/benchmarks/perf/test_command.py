"""``python -m gsco.benchmarks.perf``."""

from __future__ import annotations

import pytest
from gsco.benchmarks.perf import __main__ as command
from gsco.benchmarks.perf import specialists, startup


def test_finds_the_benchmarks_and_not_their_tools() -> None:
    found = command.benchmarks()
    assert {"specialists", "startup"} <= set(found)
    assert "timing" not in found


def test_one_that_fails_is_told_and_does_not_stop_the_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def broken() -> None:
        raise RuntimeError("no weights here")

    monkeypatch.setattr(specialists, "main", broken)
    monkeypatch.setattr(startup, "main", lambda: ran.append("startup"))
    assert command.main(["specialists", "startup"]) == 1
    assert ran == ["startup"]
    assert "no weights here" in capsys.readouterr().err


def test_an_unknown_name_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["nonsense"]) == 2
    assert "startup" in capsys.readouterr().err
