"""What a run has shown beside its arms' decisions: noise control, arbitration suite and abilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..metrics.uncertainty import Estimate
from .blocks import Block, ReportTable, points

if TYPE_CHECKING:
    from ..abilities.report import AbilityRow
    from ..arbitration.report import Arbitration
    from ..noise import NoiseRow
    from .contents import RunReport


def condition_blocks(one: RunReport) -> Iterator[Block]:
    """Say what a run has shown under conditions or beside its decisions; nothing where that was not run."""
    if one.noise:
        yield from noise_blocks(one.noise)
    if one.arbitration is not None:
        yield from arbitration_blocks(one.arbitration)
    if one.abilities:
        yield from ability_blocks(one.abilities)


def noise_blocks(rows: Sequence[NoiseRow]) -> Iterator[Block]:
    """Lay out the noise control."""
    yield (
        "What one part says of a case is exchanged for what it says of another one, drawn at random. Gain: "
        "accuracy over that of the arm without the part, paired, in percentage points, with 95 % bootstrap "
        "intervals of whole groups. With noise it has to be gone."
    )
    yield ReportTable(
        ("set", "exchanged", "arm", "n", "accuracy", "with noise", "without the part", "gain", "with noise"),
        [
            (
                row.set,
                row.noise,
                row.arm,
                str(row.n),
                f"{row.natural:.3f}",
                f"{row.noised:.3f}",
                row.reference,
                points(row.gain),
                points(row.left),
            )
            for row in rows
        ],
    )


def arbitration_blocks(made: Arbitration) -> Iterator[Block]:
    """Lay out the arbitration suite."""
    cases = ", ".join(f"{task} {count}" for task, count in made.tasks.items())
    yield (
        f"Generalist {made.generalist}, profile {made.profile}. Cases: {cases}.\n"
        f"95 % intervals: percentile bootstrap, {made.rounds} draws of whole groups. The mean is over tasks. "
        f"Altered cases without an answer: {made.errors}; they count as wrong."
    )
    rows = [
        (row.name, row.arm, cell(row.mean), *(cell(row.tasks.get(task)) for task in made.tasks))
        for row in made.rows
    ]
    yield ReportTable(("measure", "arm", "mean", *made.tasks), rows)
    if made.split_panel is not None:
        gain = made.split_panel
        yield (
            f"Where the specialists do not agree ({gain.n} cases), gsco is right more often than the vote by "
            f"{100 * gain.value:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]."
        )


def ability_blocks(rows: Sequence[AbilityRow]) -> Iterator[Block]:
    """Lay the abilities of a generalist out."""
    yield (
        "Right: how many of the choices, decisions or answers are. 95 % intervals; those of one case are\n"
        "taken together."
    )
    yield ReportTable(
        ("ability", "task", "cases", "right"),
        [(row.ability, row.task, str(row.right.n), _percentage(row.right)) for row in rows],
    )
    for row in rows:
        if row.commonest:
            yield f"{row.ability}, {row.task}: always saying {row.commonest}."


def _percentage(found: Estimate) -> str:
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"


def cell(estimate: Estimate | None) -> str:
    """A rate in per cent, with its interval and n."""
    if estimate is None:
        return "–"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}] n={estimate.n}"
