"""What a report says, in paragraphs, tables and lists, whatever it is written as."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...case import TaskKind
from ..metrics.uncertainty import Difference, Estimate
from ..overall import Contrast, Overall
from ..records import RunCard
from ..scoring import Comparison, Scores
from ..texts import TextScore

if TYPE_CHECKING:
    from .contents import RunReport

HEADINGS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "binary_f1": "F1 of the finding",
    "auroc": "AUROC",
    "mean_average_precision": "mAP",
    "ece": "ECE",
    "brier": "Brier",
}
OF_SEVERAL_LABELS = frozenset({"micro_f1", "mean_average_precision"})
"""Metrics that say nothing new of a task with one label per case."""
SHOWN_FAILURES = 20


@dataclass(frozen=True)
class Table:
    """A table of text."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Listing:
    """A list of short texts."""

    entries: Sequence[str]


Block = str | Table | Listing


def sections(one: RunReport) -> Iterator[Block]:
    """Say what there is to say of one run."""
    yield from _head(one)
    if one.scores is not None:
        yield from _arms(one.scores, several=one.run.task.kind is TaskKind.MULTILABEL)
        yield from _slices(one.scores)
        yield from _comparisons(one.scores)
        yield from _influences(one.scores)
        yield from _failures(one.scores)
    if one.texts:
        yield from _texts(one.texts)
    yield from _leakage(one.run)
    yield from _origin(one)


def together(found: Overall) -> Iterator[Block]:
    """Say what the sets of a suite are together."""
    yield (
        f"Means over {len(found.sets)} sets ({', '.join(found.sets)}); each counts alike. The best "
        "specialist is on each set the one with the largest balanced accuracy on its very test cases. Calls: "
        "questions to the generalist per case. The last columns: error over all cases, and over the surest "
        "80 %."
    )
    headings = ("accuracy", "balanced_accuracy", "macro_f1", "ece")
    rows = [
        [
            mean.arm,
            *(_number(mean.metrics.get(name), 0, n=False) for name in headings),
            f"{mean.calls:.2f}",
            *(("–", "–") if mean.selective is None else (f"{error:.3f}" for error in mean.selective)),
        ]
        for mean in found.means
    ]
    titles = [*(HEADINGS[name] for name in headings), "calls", "error", "error at 80 %"]
    yield _table(["arm", *titles], rows)
    yield (
        "Paired differences of the means (arm − reference, percentage points): bootstrap of whole groups in "
        "each set. p′: after Holm, over all rows. Behind them the differences of accuracy on each set."
    )
    titles = ["arm", "reference", "accuracy", "p′", "balanced accuracy", "p′", *found.sets]
    yield _table(titles, [_contrasted(one, found.sets) for one in found.contrasts])


def _contrasted(one: Contrast, sets: Sequence[str]) -> list[str]:
    return [
        one.arm,
        one.reference,
        points(one.differences["accuracy"]),
        small(one.adjusted["accuracy"]),
        points(one.differences["balanced_accuracy"]),
        small(one.adjusted["balanced_accuracy"]),
        *(f"{100 * one.per_set[name]:+.1f}" for name in sets),
    ]


def _texts(several: Sequence[TextScore]) -> Iterator[Block]:
    yield "95 % intervals: percentile bootstrap of whole groups. An answer that never came shares no word."
    names = list(dict.fromkeys(name for one in several for name in one.metrics))
    rows = [
        [one.arm, str(one.n), *(_number(one.metrics.get(name), one.n) for name in names), str(one.errors)]
        for one in several
    ]
    yield _table(["arm", "n", *(name.replace("_", " ") for name in names), "errors"], rows)


def _head(one: RunReport) -> Iterator[Block]:
    run = one.run
    groups = f" of {one.scores.groups} patients or groups" if one.scores is not None else ""
    labels = (
        f" ({', '.join(f'{label} {count}' for label, count in run.labels.items())})" if run.labels else ""
    )
    yield f"Data set {run.dataset}, {run.split} split: {one.finished} cases{groups}{labels}."
    if one.finished < run.cases:
        yield f"**Not finished: {one.finished} of {run.cases} cases.** The numbers are over those."


def _arms(scores: Scores, *, several: bool) -> Iterator[Block]:
    yield f"95 % intervals: percentile bootstrap, {scores.rounds} draws of whole groups, seed {scores.seed}."
    yield "An arm without an answer is wrong. ECE and Brier: smaller is better. Calls: questions per case."
    names = [name for name in HEADINGS if several or name not in OF_SEVERAL_LABELS]
    if not any(_defined(arm.metrics.get("binary_f1")) for arm in scores.arms):
        names.remove("binary_f1")
    rows = [
        [
            arm.arm,
            str(arm.n),
            *(_number(arm.metrics.get(name), arm.n) for name in names),
            f"{arm.calls:.2f}",
            str(arm.errors),
        ]
        for arm in scores.arms
    ]
    yield _table(["arm", "n", *(HEADINGS[name] for name in names), "calls", "errors"], rows)


def _defined(found: Estimate | None) -> bool:
    return found is not None and not math.isnan(found.value)


def _slices(scores: Scores) -> Iterator[Block]:
    yield "Abstention and conflict, with Wilson intervals."
    yield "Disputed cases are those in which specialists and similar cases contradict each other."
    rows = [
        [
            arm.arm,
            *(_share(part) for part in (arm.coverage, arm.covered_accuracy)),
            *(_share(part) for part in (arm.disputed_accuracy, arm.undisputed_accuracy)),
            "–" if arm.selective is None else f"{arm.selective.at_80:.3f}",
            "–" if arm.selective is None else f"{arm.selective.aurc:.3f}",
        ]
        for arm in scores.arms
    ]
    headings = [
        "arm", "coverage", "accuracy where it answers", "accuracy, disputed", "accuracy, undisputed",
        "error at 80 %", "AURC",
    ]  # fmt: skip
    yield _table(headings, rows)


def _comparisons(scores: Scores) -> Iterator[Block]:
    if not scores.comparisons:
        return
    yield (
        f"Paired differences (arm − reference, n = {scores.n}, percentage points). The best specialist "
        "is the one with the largest balanced accuracy on these cases. p: exact McNemar for accuracy, "
        "paired bootstrap for balanced accuracy; p′: after Holm, over all rows."
    )
    headings = ["arm", "reference", "accuracy", "p", "p′", "balanced accuracy", "p", "p′"]
    yield _table(headings, [_compared(one) for one in scores.comparisons])


def _compared(one: Comparison) -> list[str]:
    accuracy, balanced = one.differences["accuracy"], one.differences["balanced_accuracy"]
    return [
        one.arm,
        one.reference,
        points(accuracy),
        small(one.mcnemar),
        small(one.adjusted["mcnemar"]),
        points(balanced),
        small(balanced.p),
        small(one.adjusted["balanced_accuracy"]),
    ]


def _influences(scores: Scores) -> Iterator[Block]:
    if not scores.influences:
        return
    yield "What evidence does to the generalist, against the generalist alone (Wilson intervals)."
    rows = [[one.arm, _share(one.rescued), _share(one.misled)] for one in scores.influences]
    yield _table(["arm", "rescued: wrong → right", "misled: right → wrong"], rows)


def _failures(scores: Scores) -> Iterator[Block]:
    if not scores.failures:
        return
    yield f"Cases without an answer ({len(scores.failures)}; they count as wrong):"
    entries = [f"{one.arm}, {one.case}: {one.error}" for one in scores.failures[:SHOWN_FAILURES]]
    if more := len(scores.failures) - len(entries):
        entries.append(f"and {more} more, in `report.json`")
    yield Listing(entries)


def _leakage(run: RunCard) -> Iterator[Block]:
    found = run.leakage
    if not found.any:
        yield (
            f"Leakage: none of the {found.checked} cases shares an image or a group "
            f"with the {found.bank} known cases."
        )
    else:
        yield (
            f"**Leakage**: of {found.checked} cases {len(found.same_image)} are themselves in the bank of "
            f"{found.bank} known cases, {len(found.same_group)} share a group with one. Retrieval did not "
            "return those known cases; whether a model was trained on them is not known."
        )
    if found.near_duplicates:
        yield f"{len(found.near_duplicates)} further cases look like a known one (a perceptual hash)."
    if found.unseen:
        yield f"{found.unseen} known cases have no picture to compare with."
    if found.dropped:
        yield f"{len(found.dropped)} of these cases were left out of the run."


def _origin(one: RunReport) -> Iterator[Block]:
    run = one.run
    reasons: dict[str, list[str]] = {}
    for name, reason in run.left_out.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        yield f"Left out: {', '.join(names)} ({reason})."
    for note in run.notes:
        yield f"Data: {note}."
    generalist, profile = (run.configuration.get(part, {}) for part in ("generalist", "profile"))
    named = [f"generalist {generalist.get('name', '–')}", f"profile {profile.get('profile', '–')}"]
    panel = run.configuration.get("panel", {})
    if isinstance(members := panel.get("members"), Mapping):
        named.append("panel " + ", ".join(f"{name} {version}" for name, version in members.items()))
    yield f"Made by gsco {run.versions.get('gsco', '')}: {'; '.join(named)}. Data {run.dataset_sha256[:12]}."


def _number(estimate: Estimate | None, cases: int, *, n: bool = True) -> str:
    if estimate is None:
        return "–"
    fewer = f" (n = {estimate.n})" if n and estimate.n != cases else ""
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]{fewer}"


def _share(estimate: Estimate | None) -> str:
    if estimate is None:
        return "– (n = 0)"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}] (n = {estimate.n})"


def points(found: Difference) -> str:
    """A difference in percentage points, with its interval."""
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def small(value: float) -> str:
    """A p-value."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> Table:
    return Table(tuple(headings), tuple(rows))
