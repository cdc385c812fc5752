"""Certificates: which answers may be given without a person, so that at most a set share of them is wrong.

Learn-then-Test (Angelopoulos et al., arXiv:2110.01052) as MAPIE has it: limits of confidence are tested
from the strictest on, in a fixed sequence, and the last one that holds is taken. The sequence is the same
for every task, so that it does not depend on the cases that test it. The risk is the share of wrong answers
among those that are given alone, in exact binomial tails; one case of each patient or group counts.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import numpy.typing as npt

from ..case import Record
from .collaboration_fit import HeldOutScores

DELTA = 0.1
"""The promise holds with a confidence of one minus this."""
START = 3
"""The sequence begins where so many times the least number of answers are given alone,"""
LEAST_SHARE = 0.4
"""or at this share of the cases, where they are few."""
_LIMITS = tuple(1 - round(float(step), 4) for step in np.geomspace(0.004, 0.9, 48))
"""Confidences from which on an answer may be given alone, the strictest first."""


class Certificate(Record):
    """What is promised of answers that are given alone, or why nothing can be."""

    max_error: float
    """Of the answers given alone at most this share is wrong,"""
    delta: float = DELTA
    """with a confidence of one minus this."""
    limit: float | None = None
    """The confidence from which on an answer is given alone; None where nothing can be promised."""
    n: int = 0
    """Patients or groups that it was tested on."""
    answered: int = 0
    """How many of them are answered alone."""
    wrong: int = 0
    needed: int = 0
    """Answers that are needed at the least, all of them right."""
    floors: tuple[tuple[str, float], ...] = ()
    """Of the cases that truly have this label at most this share is answered alone without it."""
    independent: bool = False
    """Whether the cases chose nothing at all of the specialists."""

    @property
    def coverage(self) -> float:
        """Share of the cases that are answered alone."""
        return self.answered / self.n if self.n else 0.0

    @property
    def words(self) -> str:
        """The promise, or why there is none."""
        if self.limit is None:
            nothing = f"Nothing can be promised about an error of at most {self.max_error:.0%}"
            if self.n < self.needed:
                return f"{nothing}: at least {self.needed} held-out patients are needed, {self.n} are there."
            return f"{nothing}: of {self.n} held-out patients too many were answered wrongly or unsurely."
        floors = "".join(f", at most {share:.0%} of {label} missed" for label, share in self.floors)
        return (
            f"certified error at most {self.max_error:.0%}{floors} (n = {self.n} patients, coverage "
            f"{self.coverage:.0%}, confidence {1 - self.delta:.0%})"
        )


def needed_answers(max_error: float, delta: float = DELTA) -> int:
    """Answers that an error limit needs at the least, if all of them are right."""
    return math.ceil(math.log(delta) / math.log1p(-max_error))


_CERTIFICATES: dict[tuple[HeldOutScores, float, float, tuple[tuple[str, float], ...]], Certificate] = {}


def certify(
    held_out: HeldOutScores,
    max_error: float,
    *,
    delta: float = DELTA,
    floors: tuple[tuple[str, float], ...] = (),
) -> Certificate:
    """Find the lowest confidence from which on answers may be given alone.

    Args:
        held_out: cases that fitted nothing of the decision, one of each group.
        max_error: share of the answers given alone that may be wrong.
        delta: the promise may fail with this probability.
        floors: labels, with the share of their cases that may be answered alone without the label. The
            promises share ``delta``.

    Returns:
        A certificate without a limit where nothing can be promised.
    """
    key = (held_out, max_error, delta, floors)
    if key not in _CERTIFICATES:
        _CERTIFICATES[key] = _certified(held_out, max_error, delta, floors)
    return _CERTIFICATES[key]


def _certified(
    held_out: HeldOutScores, max_error: float, delta: float, floors: tuple[tuple[str, float], ...]
) -> Certificate:
    needed = needed_answers(max_error, delta)
    base = Certificate(
        max_error=max_error,
        delta=delta,
        n=len(held_out),
        needed=needed,
        floors=floors,
        independent=held_out.independent,
    )
    if len(held_out) < needed:
        return base
    share = delta / (1 + len(floors))
    confidence = np.where(np.array(held_out.eligible), np.array(held_out.confidence), 0.0)
    right = np.array(held_out.right)
    limits = [_lowest_limit(confidence, right, 1 - max_error, share)]
    for label, missed in floors:
        positive = np.array([label in truth for truth in held_out.truth])
        without = np.array([label not in said for said in held_out.said])
        if positive.sum() < needed_answers(missed, share):
            return base.model_copy(update={"needed": needed_answers(missed, share)})
        limits.append(_lowest_missing(confidence[positive], without[positive], missed, share))
    if any(limit is None for limit in limits):
        return base
    limit = max(one for one in limits if one is not None)
    alone = confidence >= limit
    return base.model_copy(
        update={"limit": limit, "answered": int(alone.sum()), "wrong": int((alone & ~right).sum())}
    )


def _lowest_limit(
    confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], level: float, delta: float
) -> float | None:
    """The lowest limit in sequence for which MAPIE's test holds the risk."""
    from mapie.risk_control import BinaryClassificationController

    # A limit that few cases pass hardly ever holds, and would end the sequence: it begins where enough do
    # that an error half as large is told from the limit. Which pass is known without what is right.
    needed = needed_answers(1 - level, delta)
    start = max(needed, min(START * needed, int((confidence > 0).sum() * LEAST_SHARE)))
    limits = np.array([limit for limit in _LIMITS if (confidence >= limit).sum() >= start])
    if not len(limits):
        return None
    controller = BinaryClassificationController(
        predict_function=_two_columns,
        risk="precision",
        target_level=level,
        confidence_level=1 - delta,
        list_predict_params=limits,
        fwer_method="fixed_sequence",
    )
    with warnings.catch_warnings():
        # It warns where no limit holds, which is told in the certificate.
        warnings.simplefilter("ignore")
        controller.calibrate(confidence[:, None], right.astype(int))
    found = np.atleast_1d(controller.valid_predict_params)
    return float(found.min()) if len(found) else None


def _two_columns(confidence: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Confidences (n, 1) as MAPIE wants a classifier's probabilities, (n, 2)."""
    p = np.asarray(confidence, dtype=np.float64)[:, 0]
    return np.stack([1 - p, p], axis=1)


def _lowest_missing(
    confidence: npt.NDArray[np.float64], without: npt.NDArray[np.bool_], missed: float, delta: float
) -> float | None:
    """The lowest limit for which few enough cases of a label are answered alone without it."""
    from scipy.stats import binom

    lowest = None
    for limit in _LIMITS:
        count = int(((confidence >= limit) & without).sum())
        if binom.cdf(count, len(confidence), missed) > delta:
            break
        lowest = limit
    return lowest
