"""``kill -9`` at arbitrary moments: the same run goes on, nothing is lost and nothing is done twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from gsco._support.jsonl import read_log
from gsco.evals.records import OUTCOMES, Outcome

from . import scripted_run as script
from .scripted_run import Bench

KILLS = 10


def final(out: Path) -> dict[tuple[str, str], tuple[Outcome, dict[str, float]]]:
    """By case and arm, the outcome without its timings, and its probabilities."""
    found = {}
    for outcome in read_log(out / OUTCOMES, Outcome):
        assert (outcome.case, outcome.arm) not in found, "done twice"
        changes = {"seconds": {}, "probabilities": None, "confidence": None}
        found[outcome.case, outcome.arm] = (
            outcome.model_copy(update=changes),
            dict(outcome.probabilities or {}),
        )
    return found


def test_a_run_killed_ten_times_ends_as_one_that_was_not(
    weighing_folder: Path, weighed_run: Path, tmp_path: Path
) -> None:
    """Whatever is being done: reading images, gathering evidence, or asking."""
    out = tmp_path / "out"
    moments = random.Random(4)
    command = [sys.executable, str(script.__file__), str(weighing_folder), str(out), "0.02", str(KILLS + 1)]
    written = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(KILLS):
            pid, before = int(process.stdout.readline()), lines(out)
            # Killed some moment after it has written something new, wherever that falls.
            while lines(out) == before and process.poll() is None:
                time.sleep(0.002)
            time.sleep(moments.choice((0.0, 0.0, moments.uniform(0, 0.05))))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            written.append(lines(out))
        assert process.stdout.readline(), "the last one runs to its end"
    assert process.returncode == 0
    assert written[0] > 0 and all(later > earlier for earlier, later in pairwise(written))
    assert written[-1] < lines(weighed_run), "it was killed before its end each time"
    interrupted, whole = final(out), final(weighed_run)
    assert interrupted.keys() == whole.keys(), "none lost"
    for key, (outcome, probabilities) in whole.items():
        assert interrupted[key][0] == outcome
        assert interrupted[key][1] == pytest.approx(probabilities, abs=1e-3)


def test_a_torn_record_is_done_again(bench: Bench, finished_run: Path, tmp_path: Path) -> None:
    for path in finished_run.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    log = tmp_path / OUTCOMES
    log.write_bytes(log.read_bytes()[:-30])
    assert bench.replay(tmp_path).done == 1
    assert final(tmp_path).keys() == final(finished_run).keys()


def lines(out: Path) -> int:
    """Records of the run."""
    path = out / OUTCOMES
    return path.read_bytes().count(b"\n") if path.exists() else 0
