from __future__ import annotations

import subprocess

import pytest
from gsco.benchmarks.perf import startup
from gsco.benchmarks.perf.timing import race


def test_a_fresh_process_is_timed() -> None:
    only = {name: start for name, start in startup.contenders().items() if name == "import gsco"}
    assert 0.005 < race(only, rounds=1, warmup=0).median("import gsco") < 60


def test_a_start_that_fails_is_an_error() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        startup._started("-c", "raise SystemExit(3)")()
