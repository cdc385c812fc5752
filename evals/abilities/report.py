"""The table of the suite: one row per ability and task, with intervals."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from ..._support.jsonl import read_log, write_atomically
from ...case import DISCLAIMER
from ...errors import ConfigurationError
from ..metrics.uncertainty import Estimate, share
from .ability_records import LOG, AbilityRecord

MARKDOWN = "abilities.md"
ALL = "all"


def report(folder: Path) -> int:
    """Write the table of a run; returns how many cases have no answer.

    Raises:
        ConfigurationError: the folder holds no run, or runs of several generalists.
    """
    latest = {
        (one.ability, one.task, one.case, one.generalist): one
        for one in read_log(folder / LOG, AbilityRecord)
    }
    shown = list(latest.values())
    versions = {one.generalist for one in shown}
    if len(versions) != 1:
        raise ConfigurationError(
            f"{folder / LOG} holds {len(versions)} generalists, not one; use another folder"
        )
    write_atomically(folder / MARKDOWN, table(shown))
    return sum(one.error is not None for one in shown)


def table(shown: Sequence[AbilityRecord]) -> str:
    """The report as Markdown; a case without an answer counts as wrong."""
    rows: defaultdict[tuple[str, str], list[AbilityRecord]] = defaultdict(list)
    for one in shown:
        rows[one.ability, one.task].append(one)
    for ability in {one.ability for one in shown}:
        if len({task for name, task in rows if name == ability}) > 1:
            rows[ability, ALL] = [one for one in shown if one.ability == ability]
    lines = [
        f"# Abilities of generalist {shown[0].generalist}",
        "",
        "Right: how many of the choices, decisions or answers are. 95 % intervals; those of one case are",
        "taken together.",
        "",
        "| ability | task | cases | right |",
        "|---|---|---|---|",
    ]
    for (ability, task), of in sorted(rows.items()):
        share = _share(_shared([(one.case, one.right, one.stated) for one in of]))
        lines.append(f"| {ability} | {task} | {len(of)} | {share} |")
    return "\n".join([*lines, "", *_baselines(rows), DISCLAIMER, ""])


def _baselines(rows: dict[tuple[str, str], list[AbilityRecord]]) -> list[str]:
    found = []
    for (ability, task), of in sorted(rows.items()):
        truths = Counter(one.truth for one in of if one.truth)
        if truths:
            answer, count = truths.most_common(1)[0]
            found += [f"{ability}, {task}: always saying {answer!r} is right in {count / len(of):.1%}.", ""]
    return found


def _shared(counts: Sequence[tuple[str, int, int]]) -> Estimate | None:
    """Share of facts, from each case's hits and number of facts; facts of one case go together."""
    import numpy as np

    hits = [place < hit for _, hit, number in counts for place in range(number)]
    return share(np.array(hits, dtype=bool), [case for case, _, number in counts for _ in range(number)])


def _share(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"
