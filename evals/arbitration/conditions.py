"""Conflicts that are made: evidence that is wrong, of another case, or without an image behind it."""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from ...case import Evidence, ImageRef, Opinion, Task
from ..arms import knn, mean
from ..conditions import Cohort, Condition, ConditionQuestion, GatheredCase

Arm = Literal["generalist", "moed", "rad", "gsco-paper"]
PERMUTATIONS = 3


def evidence_label(evidence: Evidence, task: Task, arm: Arm) -> str | None:
    """The label that an arm's evidence amounts to; None without any.

    Each specialist has one voice, the similar cases together have one; of equals the label with the larger
    mean probability.
    """
    voices = Counter[str]()
    if arm in ("moed", "gsco-paper"):
        voices.update(opinion.labels[0] for opinion in evidence.opinions if opinion.labels)
    if arm in ("rad", "gsco-paper") and evidence.similar_cases:
        voices.update(knn(task, evidence).labels)
    if not voices:
        return None
    means = _probable(task, evidence)
    return max(task.options, key=lambda option: (voices[option], means[option]))


def hard_lure(known: GatheredCase, task: Task) -> str:
    """The wrong option that the specialists find most probable."""
    means = _probable(task, known.evidence)
    return max((option for option in task.options if option not in known.truth), key=lambda name: means[name])


def random_lure(known: GatheredCase, task: Task) -> str:
    """A wrong option, drawn by the case's name."""
    others = [option for option in task.options if option not in known.truth]
    return others[zlib.crc32(known.id.encode()) % len(others)]


def _probable(task: Task, evidence: Evidence) -> Mapping[str, float]:
    if any(opinion.probabilities for opinion in evidence.opinions):
        return mean(task, evidence).probabilities or {}
    return (
        knn(task, evidence).probabilities or {}
        if evidence.similar_cases
        else dict.fromkeys(task.options, 0.0)
    )


def _forced(opinion: Opinion, label: str) -> Opinion:
    """Let an opinion name a label: its probability and that of the named label change places."""
    said, values = opinion.labels[0], dict(opinion.probabilities)
    values[said], values[label] = values[label], values[said]
    return opinion.model_copy(update={"labels": (label,), "probabilities": values})


def _forces(
    name: str,
    arms: tuple[Arm, ...],
    label_of: Callable[[GatheredCase, Task], str],
    *,
    neighbours: bool = True,
) -> Condition:
    """All evidence names one label; its numbers stay as plausible as they were."""

    def alter(known: GatheredCase, cohort: Cohort) -> ConditionQuestion:
        label, evidence = label_of(known, cohort.task), known.evidence
        changed = {
            "opinions": tuple(_forced(opinion, label) for opinion in evidence.opinions),
            "similar_cases": tuple(
                case.model_copy(update={"labels": (label,)}) if neighbours else case
                for case in evidence.similar_cases
            ),
        }
        return ConditionQuestion(known.case, cohort.task, evidence.model_copy(update=changed))

    return Condition(name, arms, alter)


def _neighbours_shuffled(known: GatheredCase, cohort: Cohort) -> ConditionQuestion:
    """Labels of the neighbours of as many other cases as there are neighbours."""
    found, place = [], known
    for case in known.evidence.similar_cases:
        place = cohort.others[place.id]
        strange = place.evidence.similar_cases
        found.append(case.model_copy(update={"labels": strange[0].labels}) if strange else case)
    evidence = known.evidence.model_copy(update={"similar_cases": tuple(found)})
    return ConditionQuestion(known.case, cohort.task, evidence)


def _another_s_evidence(known: GatheredCase, cohort: Cohort) -> ConditionQuestion:
    return ConditionQuestion(known.case, cohort.task, cohort.others[known.id].evidence)


def _noise(known: GatheredCase, cohort: Cohort) -> ConditionQuestion:
    """Uniform grey noise of the image's size, drawn by the case's name."""
    assert cohort.images is not None, "a noise image is put into the image store"
    image = cohort.images.put(noise_png(known.id, known.case.images[0]))
    case = known.case.model_copy(update={"images": (image,)})
    return ConditionQuestion(case, cohort.task, known.evidence)


def noise_png(name: str, image: ImageRef) -> bytes:
    """Draw grey noise of an image's size, as a PNG."""
    from io import BytesIO

    from PIL import Image

    seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    pixels = np.random.default_rng(seed).integers(0, 256, size=(image.height, image.width), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def _permuted(number: int) -> Condition:
    def alter(known: GatheredCase, cohort: Cohort) -> ConditionQuestion:
        seed, options = [zlib.crc32(known.id.encode()), number], cohort.task.options
        order = np.random.default_rng(seed).permutation(len(options))
        permuted = cohort.task.model_copy(update={"options": tuple(options[place] for place in order)})
        return ConditionQuestion(known.case, permuted, known.evidence)

    return Condition(f"options permuted {number}", ("generalist", "gsco-paper"), alter)


SPECIALISTS_WRONG = _forces("specialists wrong", ("gsco-paper",), hard_lure, neighbours=False)
ALL_WRONG = _forces("all evidence wrong", ("moed", "rad", "gsco-paper"), hard_lure)
ALL_WRONG_AT_RANDOM = _forces("all evidence wrong at random", ("gsco-paper",), random_lure)
ALL_RIGHT = _forces("all evidence right", ("moed", "rad", "gsco-paper"), lambda known, task: known.truth[0])
SHUFFLED = Condition("neighbours shuffled", ("rad", "gsco-paper"), _neighbours_shuffled, mixes=True)
ANOTHERS = Condition("another's evidence", ("gsco-paper",), _another_s_evidence, mixes=True)
NOISE = Condition("noise image", ("generalist", "gsco-paper"), _noise)
PERMUTED = tuple(_permuted(number) for number in range(1, PERMUTATIONS + 1))
CONDITIONS = (
    SPECIALISTS_WRONG,
    ALL_WRONG,
    ALL_WRONG_AT_RANDOM,
    ALL_RIGHT,
    SHUFFLED,
    ANOTHERS,
    NOISE,
    *PERMUTED,
)
