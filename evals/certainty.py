"""Whether the promises hold: certificates over random resplits, and alarms over streams of cases.

Both go by what a run wrote down of the arm that ships, so that what is tested is what a user gets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .._support.jsonl import read_log
from ..case import Evidence, Record, Task
from ..graphs.certificate import certify
from ..graphs.collaboration_fit import HeldOutScores
from ..graphs.drift import DriftScores, drift_scores, find_drift
from ..graphs.policy import other_doubts
from .outcomes import gathered
from .records import OUTCOMES, Outcome, read_run_card

if TYPE_CHECKING:
    from PIL.Image import Image

SHIPS = "gsco"
"""The arm that ships."""
ROUNDS = 200
STREAM = 150


@dataclass(frozen=True)
class DecidedCase:
    """A case of a run as a certificate sees it."""

    group: str
    confidence: float
    right: bool
    eligible: bool
    truth: tuple[str, ...]
    said: tuple[str, ...]
    evidence: Evidence
    sha256: str
    """Of its image."""


class CertificateStudy(Record):
    """What certificates of one error limit came to over random resplits by group."""

    task: str
    max_error: float
    rounds: int
    groups: int
    refused: float
    """Share of the resplits in which nothing could be promised."""
    broken: float
    """Share in which more of the other half's answers were wrong than promised."""
    error: float
    """Mean share of wrong answers among those given alone on the other half, where a promise was made."""
    coverage: float
    """Mean share of the other half that was answered alone, where a promise was made."""
    best: float
    """Mean share that the best limit, chosen on the other half itself, would have answered at this error."""


class DriftStudy(Record):
    """How often the alarm rang over streams of one kind."""

    task: str
    stream: str
    streams: int
    cases: int
    """Of each stream."""
    rang: float
    """Share of the streams."""
    median: float | None
    """Cases until it rang, in the middle stream that rang."""


def decided_cases(folder: Path) -> tuple[Task, list[DecidedCase]]:
    """Read what the arm that ships decided in a run.

    Raises:
        ConfigurationError: there is no such run.
    """
    card = read_run_card(folder)
    evidence = gathered(folder, card)
    found = [
        DecidedCase(
            one.group,
            one.confidence or 0.0,
            one.right,
            not list(other_doubts(card.task, evidence[one.case].evidence, one.labels)),
            one.truth,
            one.labels,
            evidence[one.case].evidence,
            evidence[one.case].sha256,
        )
        for one in read_log(folder / OUTCOMES, Outcome)
        if one.arm == SHIPS and not one.condition and card.is_current(one) and one.case in evidence
    ]
    return card.task, found


def study_certificate(
    task: str, cases: Sequence[DecidedCase], max_error: float, *, rounds: int = ROUNDS, seed: int = 0
) -> CertificateStudy:
    """Certify on a random half of the groups and look at the other half, many times.

    Args:
        task: its name.
        cases: that fitted nothing.
        max_error: the promise.
        rounds: resplits.
        seed: of the splits.
    """
    rng = np.random.default_rng(seed)
    groups = sorted({case.group for case in cases})
    members: dict[str, list[DecidedCase]] = {group: [] for group in groups}
    for case in cases:
        members[case.group].append(case)
    broken, errors, coverages, bests, refused = 0, [], [], [], 0
    for _ in range(rounds):
        order = rng.permutation(len(groups))
        half = len(order) // 2
        drawn = [_one(members[groups[place]], rng) for place in order]
        certificate = certify(_held_out(drawn[:half]), max_error)
        if certificate.limit is None:
            refused += 1
            continue
        confidence, right = _arrays(drawn[half:])
        alone = confidence >= certificate.limit
        error = float((~right[alone]).mean()) if alone.any() else 0.0
        broken += error > max_error
        errors.append(error)
        coverages.append(float(alone.mean()))
        bests.append(_best_coverage(confidence, right, max_error))
    return CertificateStudy(
        task=task,
        max_error=max_error,
        rounds=rounds,
        groups=len(groups),
        refused=refused / rounds,
        broken=broken / rounds,
        error=float(np.mean(errors)) if errors else 0.0,
        coverage=float(np.mean(coverages)) if coverages else 0.0,
        best=float(np.mean(bests)) if bests else 0.0,
    )


def study_drift(
    task: str,
    stream: str,
    reference: Sequence[DriftScores],
    incoming: Sequence[DriftScores],
    *,
    cases: int = STREAM,
    streams: int = 100,
    seed: int = 0,
) -> DriftStudy:
    """Let random streams of incoming cases run against the cases of a fit.

    Args:
        task: its name.
        stream: what the incoming cases are.
        reference: of the fit.
        incoming: cases, each in a stream at most once.
        cases: of each stream; fewer where there are not so many.
        streams: how many.
        seed: of the streams.
    """

    def draw(rng: np.random.Generator) -> tuple[Sequence[DriftScores], Sequence[DriftScores]]:
        return reference, [incoming[place] for place in rng.permutation(len(incoming))[:cases]]

    return _alarms(task, stream, draw, streams, min(cases, len(incoming)), seed)


def study_false_alarms(
    task: str, scores: Sequence[DriftScores], *, reference: int, cases: int = 1000, streams: int = 100
) -> DriftStudy:
    """Let cases of one source run against others of the same source, drawn anew for each stream.

    Args:
        task: its name.
        scores: one of each group.
        reference: how many of them stand for the fit.
        cases: of each stream; the rest, where there are not so many.
        streams: how many.
    """

    def draw(rng: np.random.Generator) -> tuple[Sequence[DriftScores], Sequence[DriftScores]]:
        drawn = [scores[place] for place in rng.permutation(len(scores))[: reference + cases]]
        return drawn[:reference], drawn[reference:]

    return _alarms(task, "the same source", draw, streams, min(cases, len(scores) - reference), 0)


def _alarms(
    task: str,
    stream: str,
    draw: Callable[[np.random.Generator], tuple[Sequence[DriftScores], Sequence[DriftScores]]],
    streams: int,
    cases: int,
    seed: int,
) -> DriftStudy:
    """Count the streams in which the alarm rings; ``draw`` gives the cases of the fit and of a stream."""
    rng = np.random.default_rng(seed)
    found = [find_drift(task, *draw(rng)) for _ in range(streams)]
    rang = [alarm.after for alarm in found if alarm is not None]
    return DriftStudy(
        task=task,
        stream=stream,
        streams=streams,
        cases=cases,
        rang=len(rang) / streams,
        median=float(np.median(rang)) if rang else None,
    )


def scores_by_group(cases: Sequence[DecidedCase]) -> list[DriftScores]:
    """What the monitor watches, of the first case of each group."""
    first: dict[str, DriftScores] = {}
    for case in cases:
        if case.group not in first and (scores := drift_scores(case.evidence)) is not None:
            first[case.group] = scores
    return list(first.values())


def inverted(image: Image) -> Image:
    """A negative."""
    from PIL import ImageOps

    return ImageOps.invert(image.convert("RGB"))


def blurred(image: Image) -> Image:
    """Out of focus: a Gaussian of 2 % of the longer side."""
    from PIL import ImageFilter

    return image.convert("RGB").filter(ImageFilter.GaussianBlur(0.02 * max(image.size)))


def compressed(image: Image) -> Image:
    """Compressed until blocks show: JPEG of quality 5."""
    from PIL import Image as Pillow

    buffer = BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=5)
    return Pillow.open(BytesIO(buffer.getvalue())).convert("RGB")


def cropped(image: Image) -> Image:
    """Only the middle: half of each side."""
    width, height = image.size
    return image.convert("RGB").crop((width // 4, height // 4, width - width // 4, height - height // 4))


CORRUPTIONS: dict[str, Callable[[Image], Image]] = {
    "inverted": inverted,
    "blurred": blurred,
    "compressed": compressed,
    "cropped": cropped,
}


def _one(cases: Sequence[DecidedCase], rng: np.random.Generator) -> DecidedCase:
    return cases[int(rng.integers(len(cases)))]


def _held_out(cases: Sequence[DecidedCase]) -> HeldOutScores:
    return HeldOutScores(
        confidence=tuple(case.confidence for case in cases),
        right=tuple(case.right for case in cases),
        eligible=tuple(case.eligible for case in cases),
        truth=tuple(case.truth for case in cases),
        said=tuple(case.said for case in cases),
    )


def _arrays(cases: Sequence[DecidedCase]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    confidence = np.array([case.confidence if case.eligible else 0.0 for case in cases])
    return confidence, np.array([case.right for case in cases])


def _best_coverage(
    confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], max_error: float
) -> float:
    """The largest share of the cases that a limit of confidence answers at this error, known afterwards."""
    order = np.argsort(-confidence, kind="stable")
    eligible = confidence[order] > 0
    wrong = np.cumsum(~right[order])
    holds = eligible & (wrong / np.arange(1, len(order) + 1) <= max_error)
    # Cases that are equally sure are answered together or not at all.
    last = np.append(np.diff(confidence[order]) != 0, True)
    places = np.flatnonzero(holds & last)
    return float((places[-1] + 1) / len(order)) if len(places) else 0.0
