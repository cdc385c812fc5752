"""The table of the suite: one row per ability and task, with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..._support.jsonl import write_atomically
from ...case import DISCLAIMER, Record
from ...errors import ConfigurationError
from ..arms import ALONE, GSCO
from ..metrics.questions import closed_right
from ..metrics.uncertainty import Estimate, share
from ..outcomes import Current, current, runs_in
from ..reports.conditions import ability_blocks
from ..reports.markdown import written

MARKDOWN = "abilities.md"
ALL = "all"
PROTOCOL, CLOSED = "fixed protocol: decision", "closed questions"


class AbilityRow(Record):
    """How often one ability was shown on one task."""

    ability: str
    task: str
    right: Estimate
    """Of all cases; one without an answer counts as wrong."""
    commonest: str = ""
    """Of questions: the answer that is right most often, and in which share of them."""


class _AbilityCase(NamedTuple):
    ability: str
    task: str
    case: str
    right: bool
    error: bool
    truth: str = ""


def report(folder: Path) -> int:
    """Write the table of the runs in a folder; returns how many cases have no answer.

    Raises:
        ConfigurationError: there is no run, or they are of several generalists.
    """
    runs = [current(home) for home in runs_in(folder)]
    versions = {str(found.run.configuration["generalist"].get("version")) for found in runs}
    if len(versions) != 1:
        raise ConfigurationError(f"{folder} holds runs of {len(versions)} generalists; use another folder")
    shown = [one for found in runs for one in _cases_of(found)]
    blocks = written(ability_blocks(_rows(shown)))
    text = [f"# Abilities of generalist {versions.pop()}", "", *blocks, DISCLAIMER, ""]
    write_atomically(folder / MARKDOWN, "\n".join(text))
    return sum(one.error for one in shown)


def abilities_of(found: Current) -> tuple[AbilityRow, ...]:
    """What the generalist showed beside its decisions in a run of the suite; nothing of other runs."""
    return _rows(list(_cases_of(found))) if found.abilities else ()


def _cases_of(found: Current) -> Iterator[_AbilityCase]:
    if found.run.task.kind.closed:
        name, several = found.run.task.name, {**found.abilities, PROTOCOL: found.outcomes[GSCO.name]}
        for ability, outcomes in several.items():
            yield from (
                _AbilityCase(ability, name, one.case, one.right, one.error is not None) for one in outcomes
            )
        return
    for one in found.outcomes[ALONE.name]:
        failed, truth = one.error is not None, " ".join(one.truth[0].casefold().strip(" .").split())
        right = closed_right(None if failed else one.text, one.truth)
        yield _AbilityCase(CLOSED, found.run.dataset, one.case, right, failed, truth)


def _rows(shown: Sequence[_AbilityCase]) -> tuple[AbilityRow, ...]:
    rows: dict[tuple[str, str], list[_AbilityCase]] = {}
    for one in shown:
        rows.setdefault((one.ability, one.task), []).append(one)
    for ability in {one.ability for one in shown}:
        if len({task for name, task in rows if name == ability}) > 1:
            rows[ability, ALL] = [one for one in shown if one.ability == ability]
    return tuple(_row(ability, task, of) for (ability, task), of in sorted(rows.items()))


def _row(ability: str, task: str, of: Sequence[_AbilityCase]) -> AbilityRow:
    right = share(np.array([one.right for one in of], dtype=bool), [one.case for one in of])
    assert right is not None, "a row has cases"
    answer, count = Counter(one.truth for one in of).most_common(1)[0]
    commonest = f"{answer!r} is right in {count / len(of):.1%}" if answer else ""
    return AbilityRow(ability=ability, task=task, right=right, commonest=commonest)
