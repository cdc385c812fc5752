"""The alarm for when a fit may no longer hold: are incoming cases still like those of the fit?

No labels are needed: how unsure the specialists are and how near the known cases lie is compared with the
same of the cases of the fit. A rank test (Mann and Whitney) of all cases of a watch is made at set numbers of
cases, which share a false-alarm rate of five per cent per thousand cases; a martingale of conformal p-values
(Vovk et al., 2005, as MAPIE has it) rings between them where the change is drastic. Of reviewed cases, the
error is watched by MAPIE's risk monitoring (Podkopaev and Ramdas, 2022), valid at any time.

Only numbers are kept: no image, no name, no group.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import FiniteFloat

from .._support.jsonl import JsonlLog, read_log
from ..case import Diagnosis, Evidence, Record
from ..disk import writing
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from .collaboration_fit import CollaborationFit

_log = logging.getLogger(__name__)
DriftPolicy = Literal["warn", "suspend", "off"]
Floats = npt.NDArray[np.float64]

CHECKS: tuple[tuple[int, float], ...] = (
    (50, 0.008),
    (100, 0.010),
    (150, 0.015),
    (300, 0.002),
    (600, 0.002),
    (1000, 0.003),
)
"""After so many cases a test is made, at this level; with the martingale's they add up to five per cent."""
MARTINGALE_LEVEL = 0.01
WATCH = 1000
"""Cases of one watch; the next one begins anew."""
EVERY = 10
"""A running program tests after so many more cases."""
LEAST_REFERENCE = 40
"""With fewer cases of the fit nothing is watched."""


class DriftScores(Record):
    """What is watched of a case."""

    doubt: FiniteFloat
    """Entropy of the specialists' mean log-probabilities, in nats."""
    distance: FiniteFloat
    """One minus the mean similarity of the similar cases."""


class DriftAlarm(Record):
    """That the cases are no longer like those of the fit."""

    task: str
    after: int
    """Cases of the watch."""
    what: Literal["doubt", "distance", "error"]
    p: float

    @property
    def words(self) -> str:
        """The alarm in a sentence."""
        how = {
            "doubt": "the specialists are less sure than on the cases of the fit",
            "distance": "the images are farther from the known cases than those of the fit",
            "error": "reviewers correct more answers than were wrong at the fit",
        }[self.what]
        return f"Drift on {self.task} after {self.after} cases: {how} (p = {self.p:.2g})."


class WatchedCase(Record):
    """One line of a task's log."""

    fit: str
    """Version of the fit."""
    scores: DriftScores | None = None
    right: bool | None = None
    """Of a reviewed case: whether the person approved the decision."""
    alarm: DriftAlarm | None = None
    """Instead of a case: an alarm given by the cases before this line; a start reads it and tests nothing."""


def drift_scores(evidence: Evidence) -> DriftScores | None:
    """What is watched of a case; None where specialists or similar cases are missing."""
    said = [opinion.probabilities for opinion in evidence.opinions if opinion.probabilities]
    if not said or not evidence.similar_cases:
        return None
    options = sorted(said[0])
    logs = np.mean([[np.log(max(p.get(option, 0.0), 1e-3)) for option in options] for p in said], axis=0)
    p = np.exp(logs - logs.max())
    p /= p.sum()
    nearness = np.mean([case.similarity for case in evidence.similar_cases])
    return DriftScores(doubt=round(float(-(p * np.log(p)).sum()), 5), distance=round(1 - float(nearness), 5))


def find_drift(
    task: str, reference: Sequence[DriftScores], watched: Sequence[DriftScores]
) -> DriftAlarm | None:
    """Test a watch's cases against those of the fit; a pure function.

    Args:
        task: its name.
        reference: of the fit.
        watched: in the order of their coming; only the latest watch of ``WATCH`` cases is looked at.
    """
    if len(reference) < LEAST_REFERENCE or not watched:
        return None
    start = (len(watched) - 1) // WATCH * WATCH
    latest = watched[start:]
    for what in ("doubt", "distance"):
        known = np.array([getattr(one, what) for one in reference])
        new = np.array([getattr(one, what) for one in latest])
        share = 0.75 if what == "doubt" else 0.25
        found = [_first_check(known, new, share), _martingale(known, new, MARTINGALE_LEVEL * share)]
        if alarms := [one for one in found if one is not None]:
            after, p = min(alarms)
            return DriftAlarm(task=task, after=after, what=what, p=p)
    return None


def _first_check(known: Floats, new: Floats, share: float) -> tuple[int, float] | None:
    for count, level in CHECKS:
        if count > len(new):
            break
        from scipy.stats import mannwhitneyu

        p = float(mannwhitneyu(new[:count], known, alternative="greater").pvalue)
        if p <= level * share:
            return count, p
    return None


def _martingale(known: Floats, new: Floats, level: float) -> tuple[int, float] | None:
    """After how many cases MAPIE's martingale exceeds its limit, with the level; None if it never does."""
    from mapie.exchangeability_testing import OnlineMartingaleTest
    from mapie.regression import SplitConformalRegressor
    from sklearn.dummy import DummyRegressor

    # Against a prediction of nothing the score of conformity is the watched number itself.
    zero = DummyRegressor(strategy="constant", constant=0.0).fit([[0.0]], [0.0])
    test = OnlineMartingaleTest(
        SplitConformalRegressor(zero, prefit=True),
        task="regression",
        test_level=level,
        warn=False,
        burn_in=1,
        random_state=np.int_(0),
    )
    test.conformity_score_history = [float(value) for value in known]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        test.update(np.zeros((len(new), 1)), new)
    over = np.flatnonzero(np.array(test.martingale_value_history) > test.reject_threshold)
    return (int(over[0]) + 1, level) if len(over) else None


def find_error_drift(task: str, held_out: Sequence[bool], reviewed: Sequence[bool]) -> DriftAlarm | None:
    """Test whether reviewed decisions are wrong more often than held-out ones; a pure function.

    It means something where every diagnosis is reviewed: reviewed doubts alone are wrong more often anyhow.

    Args:
        task: its name.
        held_out: whether each held-out decision was right.
        reviewed: whether the person approved, in the order of the reviews.
    """
    if len(held_out) < LEAST_REFERENCE or not reviewed:
        return None
    from mapie.exchangeability_testing import RiskMonitoring

    monitor = RiskMonitoring(risk="accuracy", test_level=0.05, tolerance=0.05, warn=False)
    monitor.compute_threshold(np.ones(len(held_out), int), np.array(held_out, int))
    monitor.update(np.ones(len(reviewed), int), np.array(reviewed, int))
    if not monitor.harmful_shift_detected:
        return None
    return DriftAlarm(task=task, after=len(reviewed), what="error", p=0.05)


class DriftMonitor:
    """Keeps the watched numbers of each task, and knows its alarm. Methods may be called from any thread.

    Args:
        folder: one log per task.
        policy: what an alarm does; ``suspend`` leaves every case to a person until it is reset.
    """

    def __init__(self, folder: Path, policy: DriftPolicy = "warn") -> None:
        self._folder, self.policy = folder, policy
        self._lock = threading.Lock()
        self._watched: dict[str, list[WatchedCase]] = {}
        self._alarms: dict[tuple[str, str], DriftAlarm] = {}
        """By task and version of its fit."""
        self._unreadable: dict[str, str] = {}

    def watch(self, diagnosis: Diagnosis, fit: CollaborationFit | None) -> None:
        """Take note of a case that was decided; without a fit there is nothing to compare it with."""
        if self.policy == "off" or fit is None or (scores := drift_scores(diagnosis.evidence)) is None:
            return
        self._note(diagnosis.task, WatchedCase(fit=fit.version, scores=scores), fit)

    def reviewed(self, diagnosis: Diagnosis, fit: CollaborationFit | None) -> None:
        """Take note of what a person made of a decision."""
        if self.policy == "off" or fit is None or diagnosis.review is None:
            return
        right = diagnosis.review.decision.action == "approve"
        self._note(diagnosis.task, WatchedCase(fit=fit.version, right=right), fit)

    def alarm(self, task: str, fit: CollaborationFit | None) -> DriftAlarm | None:
        """The alarm of a task, if it rang on the cases since this fit was made or the watch was reset."""
        if fit is None:
            return None
        with self._lock:
            self._cases(task)
            return self._alarms.get((task, fit.version))

    def count(self, task: str, fit: CollaborationFit | None) -> int:
        """How many cases were watched since this fit was made."""
        with self._lock:
            return sum(
                one.scores is not None and fit is not None and one.fit == fit.version
                for one in self._cases(task)
            )

    def words(self, task: str, fit: CollaborationFit | None) -> str:
        """The alarm of a task, or why there can be none, in a sentence; empty where all is well."""
        alarm = self.alarm(task, fit)
        return alarm.words if alarm is not None else self._unreadable.get(task, "")

    def suspended(self, task: str, fit: CollaborationFit | None) -> str:
        """Why no answer is given alone; empty where that is not so."""
        if self.policy != "suspend" or not (words := self.words(task, fit)):
            return ""
        return f"{words} Every case is left to a person until `gsco monitor --reset {task}`."

    def reset(self, task: str) -> None:
        """Begin a new watch: the numbers are deleted, and the alarm with them."""
        with self._lock:
            self._path(task).unlink(missing_ok=True)
            self._watched.pop(task, None)
            self._alarms = {key: alarm for key, alarm in self._alarms.items() if key[0] != task}
            self._unreadable.pop(task, None)

    def tasks(self) -> list[str]:
        """Tasks of which anything was watched."""
        return sorted(path.stem for path in self._folder.glob("*.jsonl"))

    def _note(self, task: str, case: WatchedCase, fit: CollaborationFit) -> None:
        with self._lock:
            cases = self._cases(task)
            if task in self._unreadable:
                return
            self._append(task, case)
            if len(cases) % EVERY == 0 and (task, fit.version) not in self._alarms:
                self._test(task, fit, cases)

    def _append(self, task: str, case: WatchedCase) -> None:
        self._cases(task).append(case)
        self._folder.mkdir(parents=True, exist_ok=True)
        with writing(self._path(task)), self._path(task).open("a", encoding="utf-8") as file:
            # Not synced: after a loss of power a few numbers less are watched.
            file.write(case.model_dump_json(exclude_defaults=True) + "\n")

    def _test(self, task: str, fit: CollaborationFit, cases: Sequence[WatchedCase]) -> None:
        since = [one for one in cases if one.fit == fit.version]
        scores = [one.scores for one in since if one.scores is not None]
        reviewed = [one.right for one in since if one.right is not None]
        found = find_drift(task, fit.reference, scores)
        found = found or find_error_drift(task, fit.held_out.right, reviewed)
        if found is not None:
            self._alarms[task, fit.version] = found
            self._append(task, WatchedCase(fit=fit.version, alarm=found))

    def _cases(self, task: str) -> list[WatchedCase]:
        if task not in self._watched:
            self._watched[task] = []
            try:
                JsonlLog(self._path(task), WatchedCase)  # cuts off a line that was left unfinished
                self._watched[task] += read_log(self._path(task), WatchedCase)
                self._alarms |= {
                    (task, one.fit): one.alarm for one in self._watched[task] if one.alarm is not None
                }
            except (OSError, ConfigurationError) as error:
                # Nothing else of the task depends on it; the words stand on each diagnosis.
                self._unreadable[task] = f"{self._path(task)} cannot be read, so no drift is found: {error}."
                _log.warning("%s", self._unreadable[task])
        return self._watched[task]

    def _path(self, task: str) -> Path:
        return self._folder / f"{task}.jsonl"
