"""The noise control: each part in turn says nothing, and its gain must be gone.

What one part says of a case is exchanged for what it says of another case of the run, drawn at random: the
image that the generalist sees, the opinions of the specialists, or the similar cases. So a part keeps how it
speaks and loses what it knows. An arm's gain from a part is its accuracy over that of the same arm without
the part; if it stayed with noise in the part's place, it would come from elsewhere.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._support.jsonl import write_atomically
from ..case import Record
from ..errors import ConfigurationError
from ..models.metrics.answers import Bools
from ..models.metrics.draws import ROUNDS, bootstrap, mean_of
from .arms import ALONE, KNN, MEAN, PAPER
from .conditions import Cohort, Condition, ConditionQuestion, GatheredCase, gathered_cases, replay_conditions
from .metrics.uncertainty import Difference, difference
from .outcomes import altered, current, runs_in
from .plan import Plan
from .records import RunCard
from .reports.conditions import noise_blocks
from .reports.markdown import written

if TYPE_CHECKING:
    from ..models.generalist.protocol import Generalist
    from ..settings import Settings
    from .runner import RunContext

MARKDOWN, JSON = "noise.md", "noise.json"

IMAGES, SPECIALISTS, SIMILAR = "images", "specialists", "similar cases"
EVERYTHING = f"{IMAGES}, {SPECIALISTS}, {SIMILAR}"
FREQUENT = "most frequent label"
ROWS = (
    (IMAGES, ALONE.name, FREQUENT),
    (IMAGES, PAPER.name, MEAN.name),
    (SPECIALISTS, "moed", ALONE.name),
    (SPECIALISTS, PAPER.name, "rad"),
    (SIMILAR, "rad", ALONE.name),
    (SIMILAR, PAPER.name, "moed"),
    (EVERYTHING, PAPER.name, FREQUENT),
    (SPECIALISTS, MEAN.name, FREQUENT),
    (SIMILAR, KNN.name, FREQUENT),
)
"""What is exchanged, which arm decides then, and what that arm is without the part."""
_NEEDED = {ALONE.name, PAPER.name, "moed", "rad", MEAN.name}


class NoiseRow(Record):
    """One arm with and without noise."""

    set: str
    noise: str
    arm: str
    n: int
    natural: float
    """Accuracy without noise."""
    noised: float
    reference: str
    """What the arm is without the part."""
    gain: Difference
    """Natural accuracy over that of the reference."""
    left: Difference
    """The same with noise: what is left of the gain."""


def _exchange(parts: str) -> Condition:
    named = parts.split(", ")

    def alter(known: GatheredCase, cohort: Cohort) -> ConditionQuestion:
        other = cohort.others[known.id]
        case = known.case.model_copy(update={"images": (other if IMAGES in named else known).case.images})
        evidence = known.evidence.model_copy(
            update={
                "opinions": (other if SPECIALISTS in named else known).evidence.opinions,
                "similar_cases": (other if SIMILAR in named else known).evidence.similar_cases,
            }
        )
        return ConditionQuestion(case, cohort.task, evidence)

    return Condition(
        f"noise: {parts}", tuple(arm for noise, arm, _ in ROWS if noise == parts), alter, mixes=True
    )


CONDITIONS = tuple(map(_exchange, (IMAGES, SPECIALISTS, SIMILAR, EVERYTHING)))


def control(folder: Path, *, settings: Settings, limit: int | None = None, seed: int = 0) -> str:
    """Run the control over finished runs and write ``noise.md`` and ``noise.json`` there.

    The same call goes on with a control that was stopped.

    Args:
        folder: of a run, or with the folders of several.
        settings: which generalist, and where the images are; both must be those of the run.
        limit: only a random sample of so many cases per set.
        seed: of the sample and of what is exchanged.

    Returns:
        The Markdown.

    Raises:
        ConfigurationError: there is no run with these arms, or it was made with another generalist.
    """
    from .runner import run_context_of

    homes = runs_in(folder)
    with run_context_of(settings, Plan()) as bench:
        ran = [home for home in homes if run_control(home, bench, limit=limit, seed=seed)]
    rows = [row for home in ran for row in noise_rows(home)]
    if not rows:
        raise ConfigurationError(f"{folder} has no run of a closed task with the arms generalist and gsco")
    text = "\n".join(["# Noise control", "", *written(noise_blocks(rows))])
    write_atomically(folder / JSON, "[" + ",\n".join(row.model_dump_json() for row in rows) + "]\n")
    write_atomically(folder / MARKDOWN, text)
    return text


def run_control(
    home: Path, bench: RunContext, *, limit: int | None = None, seed: int = 0, quiet: bool = False
) -> bool:
    """Run the control over one run; False where it lacks an arm that the control needs.

    Raises:
        ConfigurationError: the run was made with another generalist, or has fewer than two cases with images.
    """
    found = current(home)
    if not found.run.task.kind.closed or not found.outcomes.keys() >= _NEEDED:
        return False
    _check(found.run, bench.generalist)
    known = gathered_cases(home, bench.gsco.images)
    finished = known.keys() & {one.case for one in found.outcomes[PAPER.name]}
    names = sorted(finished, key=lambda name: (zlib.crc32(f"{seed}/{name}".encode()), name))[:limit]
    fields = {name: value for name, value in found.run.plan.items() if name in Plan.model_fields}
    plan, cases = Plan.model_validate(fields), [known[name] for name in names]
    replay_conditions(bench, home, CONDITIONS, cases, plan, seed=seed, quiet=quiet)
    return True


def noise_rows(home: Path) -> list[NoiseRow]:
    """Score the control over a run, on the cases that every row has; empty where it was not run."""
    natural = {arm: {one.case: one for one in several} for arm, several in current(home).outcomes.items()}
    under = altered(home)
    rows = [row for row in ROWS if row[1] in natural]
    said = [under.get((f"noise: {noise}", arm), {}) for noise, arm, _ in rows]
    names = sorted(set.intersection(*map(set, said))) if said else []
    if not names:
        return []
    alone = natural[ALONE.name]
    groups = [alone[name].group for name in names]
    frequent = _frequent([alone[name].truth for name in names])
    found = []
    for (noise, arm, reference), noised in zip(rows, said, strict=True):
        before = np.array([natural[arm][name].right for name in names])
        after = np.array([noised[name].right for name in names])
        other = frequent if reference == FREQUENT else np.array([natural[reference][n].right for n in names])
        found.append(_row(home.name, (noise, arm, reference), (other, before, after), groups))
    return found


def _frequent(truths: Sequence[tuple[str, ...]]) -> Bools:
    """Which cases are right if the most frequent labels are said of each."""
    counts = Counter(map(frozenset, truths))
    most = max(counts, key=lambda labels: (counts[labels], sorted(labels)))
    return np.array([frozenset(truth) == most for truth in truths])


def _row(
    name: str, said: tuple[str, str, str], right: tuple[Bools, Bools, Bools], groups: Sequence[str]
) -> NoiseRow:
    noise, arm, reference = said
    other, before, after = right
    gains = {"gain": before.astype(float) - other, "left": after.astype(float) - other}
    drawn = bootstrap({key: mean_of(gain) for key, gain in gains.items()}, groups, rounds=ROUNDS)
    found = {key: difference(float(gain.mean()), drawn[key], len(groups)) for key, gain in gains.items()}
    return NoiseRow(
        set=name,
        noise=noise,
        arm=arm,
        n=len(groups),
        natural=float(before.mean()),
        noised=float(after.mean()),
        reference=reference,
        **found,
    )


def _check(run: RunCard, generalist: Generalist | None) -> None:
    assert generalist is not None, "the control asks a generalist"
    made = run.configuration.get("generalist", {})
    if (made.get("name"), made.get("version")) != (generalist.name, generalist.version):
        raise ConfigurationError(
            f"the run was made with generalist {made.get('name')} {made.get('version')}, the settings name "
            f"{generalist.name} {generalist.version}; name the same one"
        )
