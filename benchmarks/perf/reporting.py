"""The report of a run as its records grow: seconds and peak memory, each in a fresh process.

A real run of the bundled samples is made once, and its records are repeated under other names.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from .timing import print_table

SIZES = (1_000, 10_000, 100_000)
LIMIT_SECONDS, LIMIT_GB = 60.0, 2.0
"""The largest of these may take so long, and so much memory."""
SAMPLES = "busi"

# Linux's ru_maxrss would not do: a child's begins with that of the process that started it.
_REPORT = """
import re, sys
from pathlib import Path
from gsco.evals.report import report
report(Path(sys.argv[1]), images=False)
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


class Cost(NamedTuple):
    """What one report cost."""

    records: int
    seconds: float
    gigabytes: float


def measure(sizes: Sequence[int] = SIZES) -> list[Cost]:
    """Report runs of these sizes, smallest first."""
    with TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        _replay(made)
        return [_reported(made, Path(folder) / str(size), size) for size in sorted(sizes)]


def repeated(made: Path, out: Path, records: int) -> int:
    """Write a run with at least so many outcomes; the copies of a case are other cases of other patients."""
    from ..._support.jsonl import JsonlLog, read_log
    from ...evals.records import EVIDENCE, OUTCOMES, RUN_CARD, CaseEvidence, Outcome, read_run_card

    outcomes = list(read_log(made / OUTCOMES, Outcome))
    evidence = list(read_log(made / EVIDENCE, CaseEvidence))
    copies = -(-records // len(outcomes))
    out.mkdir()
    card = read_run_card(made)
    card = card.model_copy(update={"cases": copies * card.cases})
    (out / RUN_CARD).write_text(card.model_dump_json(), encoding="utf-8")
    for copy in range(copies):
        # In parts, so that making them takes no memory to speak of.
        JsonlLog(out / OUTCOMES, Outcome).append(
            one.model_copy(update={"case": f"{copy}/{one.case}", "group": f"{copy}/{one.group}"})
            for one in outcomes
        )
        JsonlLog(out / EVIDENCE, CaseEvidence).append(
            one.model_copy(update={"case": f"{copy}/{one.case}"}) for one in evidence
        )
    return copies * len(outcomes)


def main(arguments: Sequence[str] | None = ()) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    asked = parser.parse_args(arguments)
    costs = measure(asked.sizes)
    rows = []
    for records, seconds, gigabytes in costs:
        each = 1e3 * seconds / records
        rows.append((f"{records:,}", f"{seconds:.1f}", f"{gigabytes:.2f}", f"{each:.2f}"))
    headings = ("records", "seconds", "GB at most", "ms per record")
    note = (
        "Page without images, Markdown and JSON, all bootstrap draws; a fresh process whose start counts. "
        f"Limits at 100,000: {LIMIT_SECONDS:.0f} s and {LIMIT_GB:.0f} GB."
    )
    print_table("Reports as records grow", headings, rows, note=note)


def _replay(made: Path) -> None:
    from ...evals.plan import Plan
    from ...evals.runner import run_context_of
    from ...evals.suites import Member
    from ...evals.suites.suite_runner import run_member
    from ...settings import Settings

    with TemporaryDirectory() as home:
        settings = Settings(home=Path(home), specialists=None, case_store="")
        plan = Plan()
        with run_context_of(settings, plan) as bench:
            run_member(Member(samples=SAMPLES), made, bench, plan, root=None, quiet=True)


def _reported(made: Path, out: Path, size: int) -> Cost:
    records = repeated(made, out, size)
    start = time.perf_counter()
    told = subprocess.run(
        [sys.executable, "-c", _REPORT, str(out)], check=True, stdout=subprocess.PIPE, text=True
    )
    return Cost(records, time.perf_counter() - start, int(told.stdout.split()[-1]) / 1e6)


if __name__ == "__main__":
    main(None)
