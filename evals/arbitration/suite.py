"""A run of the suite: first the natural arms through the graph, then every altered case to the generalist."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._support.jsonl import JsonlLog, read_log
from ...case import Answer, Case, ImageRef, Record, Task
from ...errors import ConfigurationError, GscoError
from ...graphs.nodes.ask import choices
from .. import provenance
from ..cases import EvalCase, chosen_items, read_cases
from ..plan import Plan
from ..records import EVIDENCE, CaseEvidence, RunCard
from ..runner import replay
from .conditions import CONDITIONS, Arm, Condition, Known, mixed_up, restricted

if TYPE_CHECKING:
    from ...agent.api import GSCo
    from ...images import ImageStore
    from ...models.dataset import Dataset
    from ...models.generalist.protocol import Choice, Generalist
    from ...settings import Settings

ANSWERS = "arbitration.jsonl"
NATURAL = ("specialists", "vote", "knn", "generalist", "moed", "rad", "gsco-paper")


class Altered(Record):
    """What the generalist said of one altered case."""

    case: str
    condition: str
    arm: str
    configuration: str
    """Hash of the data, the evidence, the generalist and the prompt."""
    label: str | None = None
    probabilities: dict[str, float] | None = None
    error: str | None = None
    """Class and message; such a case counts as wrong."""


@dataclass(frozen=True)
class _Due:
    known: Known
    condition: Condition
    arm: Arm


def run(source: Path, task: str, out: Path, *, settings: Settings, plan: Plan, quiet: bool = False) -> None:
    """Run the suite on a data set with what the settings name; the same call goes on where it was stopped.

    Args:
        source: see ``read_dataset``.
        task: name of a task with one label per case.
        out: folder of the run.
        settings: which specialists, store and generalist.
        plan: which cases, and how they are diagnosed; its arms are the suite's.
        quiet: show no progress.

    Raises:
        GscoError: of what kind, says what is wrong.
    """
    from ...agent.api import GSCo
    from ...agent.assembly import parts_of
    from ...models.dataset import read_dataset

    parts: dict[str, Any] = parts_of(settings)
    dataset = read_dataset(source, seed=plan.seed)
    generalist: Generalist = parts["generalist"]()
    parts["generalist"] = generalist
    with GSCo(**parts) as gsco:
        arbitrate(gsco, generalist, dataset, parts["tasks"].get(task), out, plan=plan, quiet=quiet)


def arbitrate(
    gsco: GSCo,
    generalist: Generalist,
    dataset: Dataset,
    task: Task,
    out: Path,
    *,
    plan: Plan,
    quiet: bool = False,
) -> None:
    """Run the suite with these very parts; see ``run``.

    Raises:
        ConfigurationError: the task does not ask for exactly one label.
    """
    if task.kind != "diagnosis":
        raise ConfigurationError(f"arbitration needs a task with one label per case; {task.name} has none")
    plan = plan.model_copy(update={"arms": NATURAL})
    card = replay(gsco, generalist, dataset, task, out, plan=plan, quiet=quiet).card
    cases = _known(gsco.images, dataset, task, out, card, plan)
    if len(cases) < 2:
        raise ConfigurationError(f"arbitration needs at least two cases with evidence, not {len(cases)}")
    _ask(generalist, cases, task, out, card, plan, quiet)


def configuration_of(card: RunCard) -> str:
    """What an altered case's answer depends on, beside its condition."""
    return provenance.configuration_hash(card.configuration, ("generalist", "profile", "panel", "retrieval"))


def _ask(
    generalist: Generalist,
    cases: Sequence[Known],
    task: Task,
    out: Path,
    card: RunCard,
    plan: Plan,
    quiet: bool,
) -> None:
    from ..._support.progress import Progress
    from ...models.generalist.prompts import PROFILES

    log, hashed, profile = JsonlLog(out / ANSWERS, Altered), configuration_of(card), PROFILES[plan.profile]
    done = {(a.case, a.condition, a.arm) for a in log if a.configuration == hashed and a.error is None}
    due = [
        _Due(known, condition, arm)
        for condition in CONDITIONS
        for arm in condition.arms
        for known in cases
        if (known.id, condition.name, arm) not in done
    ]
    others = mixed_up(cases, plan.seed)
    with Progress(f"arbitration of {task.name}", len(due), quiet=quiet) as progress:
        for start in range(0, len(due), plan.chunk):
            chunk = due[start : start + plan.chunk]
            asked: list[Choice] = []
            for one in chunk:
                question = one.condition.alter(one.known, task, others)
                evidence = restricted(question.evidence, one.arm)
                asked += choices(question.case, question.task, evidence, profile)
            answers = generalist.choose(asked)
            log.append(_answered(one, hashed, answer) for one, answer in zip(chunk, answers, strict=True))
            progress.advance(len(chunk))


def _answered(due: _Due, configuration: str, answer: Answer | GscoError) -> Altered:
    said = Altered(case=due.known.id, condition=due.condition.name, arm=due.arm, configuration=configuration)
    if isinstance(answer, GscoError):
        return said.model_copy(update={"error": f"{type(answer).__name__}: {answer}"})
    probabilities = None if answer.probabilities is None else dict(answer.probabilities)
    return said.model_copy(update={"label": answer.labels[0], "probabilities": probabilities})


def _known(
    images: ImageStore, dataset: Dataset, task: Task, out: Path, card: RunCard, plan: Plan
) -> list[Known]:
    from ..._support.progress import Progress

    evidence = {
        found.case: found.evidence
        for found in read_log(out / EVIDENCE, CaseEvidence)
        if found.configuration == card.evidence
    }
    items = chosen_items(dataset, plan.split, limit=plan.limit, seed=plan.seed)
    with Progress("reading images", len(items), quiet=True) as progress:
        asked = read_cases(dataset, items, task, images, progress)
    return [
        Known(one.id, one.group, one.truth[0], case, evidence[one.id], _of_noise(images, one, case))
        for one, case in _usable(asked)
        if one.id in evidence
    ]


def _usable(asked: Iterable[EvalCase]) -> Iterable[tuple[EvalCase, Case]]:
    return ((one, one.case) for one in asked if isinstance(one.case, Case))


def _of_noise(images: ImageStore, asked: EvalCase, case: Case) -> Case:
    """The case with uniform grey noise of its image's size, drawn by its name."""
    return replace_image(case, images.put(_noise(asked.id, case.images[0])))


def replace_image(case: Case, image: ImageRef) -> Case:
    """The same case with another single image."""
    return case.model_copy(update={"images": (image,)})


def _noise(name: str, image: ImageRef) -> bytes:
    from io import BytesIO

    from PIL import Image

    seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    pixels = np.random.default_rng(seed).integers(0, 256, size=(image.height, image.width), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()
