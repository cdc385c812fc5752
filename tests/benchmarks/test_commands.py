"""``python -m gsco.benchmarks``."""

from __future__ import annotations

import tomllib
from pathlib import Path

import gsco
import pytest
from gsco.benchmarks.__main__ import app
from gsco.errors import ConfigurationError
from typer.testing import CliRunner


def test_published_numbers_are_printed() -> None:
    printed = CliRunner().invoke(app, ["published"])
    assert printed.exit_code == 0
    assert "## pneumoniamnist" in printed.stdout and "| ours: " in printed.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["separation"], "no run of the arbitration suite"), (["leaks", "--split", "tset"], "no split 'tset'")],
)
def test_wrong_arguments_are_errors_of_gsco(tmp_path: Path, arguments: list[str], said: str) -> None:
    last = f"busi={tmp_path}" if arguments[0] == "leaks" else str(tmp_path)
    failed = CliRunner().invoke(app, [*arguments, last])
    assert isinstance(failed.exception, ConfigurationError) and said in str(failed.exception)


def test_the_wheel_holds_no_benchmark() -> None:
    project = tomllib.loads(Path(gsco.__file__).with_name("pyproject.toml").read_text(encoding="utf-8"))
    assert not [name for name in project["tool"]["setuptools"]["packages"] if "benchmarks" in name]
