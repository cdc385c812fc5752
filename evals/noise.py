"""The noise control: each part in turn says nothing, and its gain must be gone.

A finished run is taken, and what one part says of a case is exchanged for what it says of another case,
drawn at random: the image that the generalist sees, the opinions of the specialists, or the similar cases.
So a part keeps how it speaks and loses what it knows. An arm's gain from a part is its accuracy over that of
the same arm without the part; if it stayed with noise in the part's place, it would come from elsewhere.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._support.jsonl import JsonlLog, read_log, write_atomically
from ..case import Answer, Case, Evidence, ImageRef, Record, Task
from ..errors import ConfigurationError, GscoError
from ..graphs.nodes.ask import choices, joined
from .arms import ALONE, GENERALISTS, PAPER, NoEvidence, knn, mean
from .case_runner import restricted
from .metrics.answers import Bools
from .metrics.uncertainty import ROUNDS, Difference, bootstrap, difference
from .outcomes import current, runs_in
from .provenance import configuration_hash
from .records import EVIDENCE, CaseEvidence, Outcome, RunCard
from .reports.blocks import Block, ReportTable, points
from .reports.markdown import written

if TYPE_CHECKING:
    from ..images import ImageStore
    from ..models.generalist.protocol import Generalist
    from ..settings import Settings

ANSWERS = "noise.jsonl"
MARKDOWN, JSON = "noise.md", "noise.json"
_CHUNK = 64

IMAGES, SPECIALISTS, SIMILAR = "images", "specialists", "similar cases"
FREQUENT = "most frequent label"
NOISES: Mapping[str, Mapping[str, str]] = {
    IMAGES: {ALONE.name: FREQUENT, PAPER.name: "mean"},
    SPECIALISTS: {"moed": ALONE.name, PAPER.name: "rad"},
    SIMILAR: {"rad": ALONE.name, PAPER.name: "moed"},
    f"{IMAGES}, {SPECIALISTS}, {SIMILAR}": {PAPER.name: FREQUENT},
}
"""What is exchanged, which of the generalist's arms are asked then, and what each is without the part."""
_ARMS = {arm.name: arm for arm in GENERALISTS}


class NoiseAnswer(Record):
    """What the generalist said of a case of which one part was another's."""

    case: str
    noise: str
    arm: str
    configuration: str
    labels: tuple[str, ...] = ()
    error: str | None = None


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


@dataclass(frozen=True)
class _Known:
    case: Case
    group: str
    truth: tuple[str, ...]
    evidence: Evidence


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
    from ..agent.assembly import parts_of

    parts = parts_of(settings)
    generalist: Generalist = parts["generalist"]()
    rows: list[NoiseRow] = []
    for home in runs_in(folder):
        rows += _rows(home, generalist, parts["images"], limit, seed)
    if not rows:
        raise ConfigurationError(f"{folder} has no run of a closed task with the arms generalist and gsco")
    text = "\n".join(["# Noise control", "", *written(_blocks(rows))])
    write_atomically(folder / JSON, "[" + ",\n".join(row.model_dump_json() for row in rows) + "]\n")
    write_atomically(folder / MARKDOWN, text)
    return text


def exchanged(names: Sequence[str], seed: int) -> dict[str, str]:
    """By case, another one: a cycle through all of them, so that nobody keeps its own."""
    order: list[int] = np.random.default_rng(seed).permutation(len(names)).tolist()
    pairs = zip(order, [*order[1:], *order[:1]], strict=True)
    return {names[here]: names[there] for here, there in pairs}


def _rows(
    home: Path, generalist: Generalist, images: ImageStore, limit: int | None, seed: int
) -> Iterator[NoiseRow]:
    found = current(home)
    needed = {ALONE.name, PAPER.name, "moed", "rad", "mean"}
    if not found.run.task.kind.closed or not needed <= found.outcomes.keys():
        return
    _check(found.run, generalist)
    natural = {arm: {one.case: one for one in several} for arm, several in found.outcomes.items()}
    known = _known(home, found.run, natural[PAPER.name], images)
    names = sorted(known, key=lambda name: (zlib.crc32(f"{seed}/{name}".encode()), name))[:limit]
    if len(names) < 2:
        raise ConfigurationError(f"{home.name} has {len(names)} cases with images; the control needs two")
    others = exchanged(names, seed)
    said = _ask(home, found.run, generalist, {name: known[name] for name in names}, others, seed)
    groups = [known[name].group for name in names]
    frequent = _frequent([known[name].truth for name in names])
    for noise, arms in NOISES.items():
        for arm, reference in arms.items():
            right = np.array([set(said[noise, arm, n]) == set(known[n].truth) for n in names])
            before = np.array([natural[arm][name].right for name in names])
            other = (
                frequent if reference == FREQUENT else np.array([natural[reference][n].right for n in names])
            )
            yield _row(home.name, (noise, arm, reference), (other, before, right), groups)
    yield from _derived(home.name, found.run.task, known, names, others, frequent, groups)


def _frequent(truths: Sequence[tuple[str, ...]]) -> Bools:
    """Which cases are right if the most frequent labels are said of each."""
    counts = Counter(map(frozenset, truths))
    most = max(counts, key=lambda labels: (counts[labels], sorted(labels)))
    return np.array([frozenset(truth) == most for truth in truths])


def _derived(
    name: str,
    task: Task,
    known: Mapping[str, _Known],
    names: Sequence[str],
    others: Mapping[str, str],
    frequent: Bools,
    groups: Sequence[str],
) -> Iterator[NoiseRow]:
    """The same for the arms that ask nobody: their evidence is another's."""
    for noise, arm, decide in ((SPECIALISTS, "mean", mean), (SIMILAR, "knn", knn)):

        def right(given: str, of: str, decide=decide) -> bool:
            try:
                return set(decide(task, known[of].evidence).labels) == set(known[given].truth)
            except NoEvidence:
                return False

        before = np.array([right(one, one) for one in names])
        after = np.array([right(one, others[one]) for one in names])
        yield _row(name, (noise, arm, FREQUENT), (frequent, before, after), groups)


def _row(
    name: str, said: tuple[str, str, str], right: tuple[Bools, Bools, Bools], groups: Sequence[str]
) -> NoiseRow:
    noise, arm, reference = said
    other, before, after = right
    gains = {"gain": before.astype(float) - other, "left": after.astype(float) - other}
    drawn = bootstrap(
        {key: lambda weights, gain=gain: weights @ gain / weights.sum(1) for key, gain in gains.items()},
        groups,
        rounds=ROUNDS,
    )
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


def _check(run: RunCard, generalist: Generalist) -> None:
    made = run.configuration.get("generalist", {})
    if (made.get("name"), made.get("version")) != (generalist.name, generalist.version):
        raise ConfigurationError(
            f"the run was made with generalist {made.get('name')} {made.get('version')}, the settings name "
            f"{generalist.name} {generalist.version}; name the same one"
        )


def _known(
    home: Path, run: RunCard, outcomes: Mapping[str, Outcome], images: ImageStore
) -> dict[str, _Known]:
    known = {}
    for found in read_log(home / EVIDENCE, CaseEvidence):
        if found.configuration != run.evidence or found.case not in outcomes:
            continue
        outcome = outcomes[found.case]
        try:
            image: ImageRef = images.resolve(f"img-{found.sha256[:12]}")
        except GscoError:
            continue
        case = Case(id=found.case, images=(image,), group=outcome.group or None)
        known[found.case] = _Known(case, outcome.group, outcome.truth, found.evidence)
    return known


def _ask(
    home: Path,
    run: RunCard,
    generalist: Generalist,
    known: Mapping[str, _Known],
    others: Mapping[str, str],
    seed: int,
) -> dict[tuple[str, str, str], tuple[str, ...]]:
    from .._support.progress import Progress

    log = JsonlLog(home / ANSWERS, NoiseAnswer)
    made = configuration_hash(run.configuration, ("generalist", "profile", "panel", "retrieval"))
    # Whose part a case gets depends on the sample, so an answer counts only for the same exchange.
    mixed = zlib.crc32("".join(f"{one}>{other};" for one, other in sorted(others.items())).encode())
    hashed = f"{made}-{mixed:08x}"
    said = {
        (one.noise, one.arm, one.case): one.labels
        for one in log
        if one.configuration == hashed and one.error is None
    }
    due = [
        (noise, arm, name)
        for noise, arms in NOISES.items()
        for arm in arms
        for name in known
        if (noise, arm, name) not in said
    ]
    with Progress(f"noise control of {run.task.name}", len(due)) as progress:
        for start in range(0, len(due), _CHUNK):
            chunk = due[start : start + _CHUNK]
            answers = _answers(run, generalist, known, others, chunk)
            log.append(
                NoiseAnswer(case=name, noise=noise, arm=arm, configuration=hashed, **_fields(answer))
                for (noise, arm, name), answer in zip(chunk, answers, strict=True)
            )
            said |= {
                key: () if isinstance(answer, GscoError) else answer.labels
                for key, answer in zip(chunk, answers, strict=True)
            }
            progress.advance(len(chunk))
    return said


def _fields(answer: Answer | GscoError) -> dict[str, Any]:
    if isinstance(answer, GscoError):
        return {"error": f"{type(answer).__name__}: {answer}"}
    return {"labels": answer.labels}


def _answers(
    run: RunCard,
    generalist: Generalist,
    known: Mapping[str, _Known],
    others: Mapping[str, str],
    chunk: Sequence[tuple[str, str, str]],
) -> list[Answer | GscoError]:
    from ..models.generalist.prompts import PROFILES

    profile = PROFILES[str(run.plan.get("profile", "paper"))]
    asked = []
    for noise, arm, name in chunk:
        case, evidence = _mixed(known[name], known[others[name]], noise.split(", "))
        asked.append(choices(case, run.task, restricted(evidence, _ARMS[arm]), profile))
    flat = iter(generalist.choose([choice for several in asked for choice in several]))
    return [_one(run.task, [next(flat) for _ in several]) for several in asked]


def _mixed(own: _Known, other: _Known, parts: Sequence[str]) -> tuple[Case, Evidence]:
    case = own.case.model_copy(update={"images": other.case.images}) if IMAGES in parts else own.case
    evidence = own.evidence.model_copy(
        update={
            "opinions": (other if SPECIALISTS in parts else own).evidence.opinions,
            "similar_cases": (other if SIMILAR in parts else own).evidence.similar_cases,
        }
    )
    return case, evidence


def _one(task: Task, answers: Sequence[Answer | GscoError]) -> Answer | GscoError:
    good = []
    for answer in answers:
        if isinstance(answer, GscoError):
            return answer
        good.append(answer)
    return good[0] if task.kind == "diagnosis" else joined(task, good)


def _blocks(rows: Sequence[NoiseRow]) -> Iterator[Block]:
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
