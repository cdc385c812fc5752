"""What a report says, in paragraphs, tables and lists, whatever it is written as."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...case import TaskKind
from ...models.metrics.registry import METRICS
from ..arms import GSCO, PAPER
from ..metrics.uncertainty import Difference, Estimate
from ..overall import BEST_SOURCE, Contrast, Overall, found_in
from ..records import RunCard
from ..scoring import ArmScore, Comparison, Scores
from ..texts import TextScore

if TYPE_CHECKING:
    from .contents import RunReport

SHOWN_FAILURES = 20
SIGNIFICANT = 0.05
SLICES = (
    "arm",
    "coverage",
    "accuracy where it answers",
    "accuracy, disputed",
    "accuracy, undisputed",
    "error at 80 %",
    "AURC",
)


@dataclass(frozen=True)
class ReportTable:
    """A table of text."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Listing:
    """A list of short texts."""

    entries: Sequence[str]


Block = str | ReportTable | Listing


def verdict(one: RunReport) -> str:
    """What a run has shown, in one sentence; empty for open tasks."""
    if one.scores is None or not one.scores.n:
        return ""
    best = one.scores.best_source
    for arm in (GSCO.name, PAPER.name):
        if best and one.scores.same.get(arm) == best:
            return f"{arm} decides as the best single source ({best}) does."
        for found in one.scores.comparisons:
            if (found.arm, found.reference) == (arm, best):
                words = _judged(found.differences["accuracy"], found.adjusted["accuracy"])
                return f"{arm}: {words.format(f'the best single source ({best})')}"
    return "Nothing was compared: the run has no arm of the collaboration beside a single source."


def verdict_together(found: Overall) -> str:
    """What a suite has shown, in one sentence."""
    for arm in (GSCO.name, PAPER.name):
        contrast = found_in(found, arm)
        if contrast is not None:
            words = _judged(contrast.differences["accuracy"], contrast.adjusted["accuracy"])
            return f"{arm}, on the mean of {len(found.sets)} sets: {words.format('the best single source')}"
    return "Nothing was compared: the sets have no arm of the collaboration and single source in common."


def _judged(accuracy: Difference, adjusted: float) -> str:
    over = "over" if accuracy.value >= 0 else "against"
    shown = f"{points(accuracy, 'points')} of accuracy {over} {{}}"
    if adjusted < SIGNIFICANT and accuracy.low > 0:
        return f"{shown}; that is an improvement (p′ {small(adjusted)})."
    if adjusted < SIGNIFICANT and accuracy.high < 0:
        return f"{shown}; that is a loss (p′ {small(adjusted)})."
    return f"{shown}; nothing is proven (p′ {small(adjusted)})."


def sections(one: RunReport) -> Iterator[Block]:
    """Say what there is to say of one run, after its verdict."""
    yield from _head(one)
    if one.scores is not None:
        yield from _arms(one.scores, several=one.run.task.kind is TaskKind.MULTILABEL)
        yield from _comparisons(one.scores)
        yield from _weights(one.run)
        yield from _slices(one.scores)
        yield from _influences(one.scores)
        yield from _failures(one.scores)
    if one.texts:
        yield from _texts(one.texts)
    yield from _leakage(one.run)
    yield from _origin(one)


def together(found: Overall) -> Iterator[Block]:
    """Say what the sets of a suite are together, after the verdict."""
    yield (
        f"Means over {len(found.sets)} sets ({', '.join(found.sets)}); each counts alike. The {BEST_SOURCE} "
        "is on each set the one that validation cases favour. Calls: questions to the generalist per case. "
        "The last columns: error over all cases and over the surest 80 %, and the mean of the sets' ratios."
    )
    headings = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")
    rows = [
        [
            mean.arm,
            *(_number(mean.metrics.get(name), 0, n=False) for name in headings),
            _with_floor(mean.metrics.get("ece"), mean.ece_floor),
            f"{mean.calls:.2f}",
            *(("–",) * 3 if mean.selective is None else (f"{error:.3f}" for error in mean.selective)),
        ]
        for mean in found.means
    ]
    titles = [*(METRICS[name].title for name in headings), "ECE (floor)"]
    yield _table(["arm", *titles, "calls", "error", "error at 80 %", "ratio"], rows)
    yield (
        "Paired differences of the means (arm − reference; of accuracies in percentage points): intervals by "
        "bootstrap, p by sign flips, both of whole groups. p′: after Holm, over all rows. Behind them the "
        "differences of accuracy on each set."
    )
    titles = ["arm", "reference", "accuracy", "p′", "balanced accuracy", "p′", "log loss", "p′", *found.sets]
    yield _table(titles, [_contrasted(one, found.sets) for one in found.contrasts])


def _contrasted(one: Contrast, sets: Sequence[str]) -> list[str]:
    return [*_differences(one), *(f"{100 * one.per_set[name]:+.1f}" for name in sets)]


def _differences(one: Comparison | Contrast) -> list[str]:
    cells = [one.arm, one.reference]
    for metric in ("accuracy", "balanced_accuracy", "log_loss"):
        found, p = one.differences.get(metric), one.adjusted.get(metric)
        if found is None or p is None:
            cells += ["–", "–"]
            continue
        shown = f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
        cells += [shown if metric == "log_loss" else points(found), small(p)]
    return cells


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
    yield (
        "An arm without an answer is wrong. ECE and log loss: smaller is better; the floor is the ECE that "
        "perfectly calibrated answers as sure as these would show. Calls: questions per case."
    )
    names = [name for name, one in METRICS.items() if one.title and (several or not one.several)]
    if not any(_defined(arm.metrics.get("binary_f1")) for arm in scores.arms):
        names.remove("binary_f1")
    rows = [
        [
            arm.arm,
            str(arm.n),
            *(
                _with_floor(arm.metrics.get(name), arm.ece_floor)
                if name == "ece"
                else _number(arm.metrics.get(name), arm.n)
                for name in names
            ),
            f"{arm.calls:.2f}",
            str(arm.errors),
        ]
        for arm in scores.arms
    ]
    yield _table(["arm", "n", *(METRICS[name].title for name in names), "calls", "errors"], rows)
    if scores.same:
        yield Listing([f"{arm} decides every case as {other} does." for arm, other in scores.same.items()])


def _with_floor(ece: Estimate | None, floor: float | None) -> str:
    shown = _number(ece, 0, n=False)
    return shown if floor is None or ece is None else f"{shown} (floor {floor:.3f})"


def _defined(found: Estimate | None) -> bool:
    return found is not None and not math.isnan(found.value)


def _slices(scores: Scores) -> Iterator[Block]:
    yield (
        "Abstention and conflict. Intervals: Wilson's, for as many cases as the groups are worth. Disputed "
        "cases are those in which specialists and similar cases contradict each other."
    )
    yield _table(SLICES, [_slice(arm) for arm in scores.arms])


def _slice(arm: ArmScore) -> list[str]:
    shares = (arm.coverage, arm.covered_accuracy, arm.disputed_accuracy, arm.undisputed_accuracy)
    selective = arm.selective
    errors = ["–", "–"] if selective is None else [f"{selective.at_80:.3f}", f"{selective.aurc:.3f}"]
    return [arm.arm, *map(_share, shares), *errors]


def _comparisons(scores: Scores) -> Iterator[Block]:
    if not scores.comparisons:
        return
    yield (
        f"Paired differences (arm − reference, n = {scores.n}; of accuracies in percentage points): "
        "intervals by bootstrap, p by sign flips, both of whole groups; p′: p after Holm, over all rows."
    )
    headings = ["arm", "reference", "accuracy", "p′", "balanced accuracy", "p′", "log loss", "p′"]
    yield _table(headings, [_differences(one) for one in scores.comparisons])


def _weights(run: RunCard) -> Iterator[Block]:
    """The fitted weights, and what the candidates scored out of fold."""
    if run.best_source:
        yield f"Best single source: {run.best_source}, by {run.best_source_by}."
    fit = run.fit
    if fit is None:
        if run.task.kind.closed:
            yield f"No rule was fitted for this task: run `gsco fit {run.task.name} --dataset FOLDER`."
        return
    yield (
        f"The rule was fitted on {fit.cases} cases of {fit.groups} groups (data {fit.data[:12]}): "
        f"{fit.rule}, with {', '.join(fit.chosen)}. Weights in the pool:"
    )
    names = list(
        dict.fromkeys([*(fit.quiet.weights if fit.quiet else ()), *(fit.full.weights if fit.full else ())])
    )
    pools = {"without the generalist": fit.quiet, "with it": fit.full}
    rows = [
        [title, *(f"{pool.weights[name]:.2f}" if name in pool.weights else "–" for name in names)]
        for title, pool in pools.items()
        if pool is not None
    ]
    yield _table(["pool", *names], rows)


def _influences(scores: Scores) -> Iterator[Block]:
    if not scores.influences:
        return
    yield "What evidence does to the generalist, against the generalist alone."
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


def points(found: Difference, unit: str = "") -> str:
    """A difference in percentage points, with its interval."""
    value = f"{100 * found.value:+.1f}" + (f" {unit}" if unit else "")
    return f"{value} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def small(value: float) -> str:
    """A p-value."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}" if value > 1e-99 else "< 1e-99"


def _table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> ReportTable:
    return ReportTable(tuple(headings), tuple(rows))
