"""The report of a run, or of several: Markdown to read, JSON to go on with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from ..case import DISCLAIMER, Record
from ..errors import ConfigurationError
from ..models.journal import read_log, write_atomically
from .metrics.uncertainty import ROUNDS, Difference, Estimate
from .records import OUTCOMES, RUN_CARD, Outcome, RunCard, read_run_card
from .scoring import Comparison, Scores, score

MARKDOWN, JSON = "report.md", "report.json"

HEADINGS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "auroc": "AUROC",
    "ece": "ECE",
    "brier": "Brier",
}
_SHOWN_FAILURES = 20


class RunReport(Record):
    """One run: what it was, and its numbers."""

    run: RunCard
    finished: int
    """Cases that every arm has finished; the numbers are over these."""
    stale: int
    """Outcomes of an earlier configuration in the same folder, which are left out."""
    scores: Scores


def report(folder: Path, *, rounds: int = ROUNDS, seed: int = 0) -> list[RunReport]:
    """Score the runs in a folder and write ``report.md`` and ``report.json`` there.

    Args:
        folder: of one run, or with the folders of several.
        rounds: bootstrap draws.
        seed: of the draws.

    Raises:
        ConfigurationError: there is no run, or a file of it is damaged.
    """
    runs = (
        [folder]
        if (folder / RUN_CARD).exists()
        else sorted(card.parent for card in folder.glob(f"*/{RUN_CARD}"))
    )
    if not runs:
        raise ConfigurationError(f"no run in {folder}: neither it nor a folder in it has a {RUN_CARD}")
    reports = [report_of(run, rounds=rounds, seed=seed) for run in runs]
    payload = TypeAdapter(list[RunReport]).dump_python(reports, mode="json")
    write_atomically(folder / JSON, json.dumps(payload, indent=1, ensure_ascii=False) + "\n")
    write_atomically(folder / MARKDOWN, markdown(reports))
    return reports


def report_of(folder: Path, *, rounds: int = ROUNDS, seed: int = 0) -> RunReport:
    """Score one run. Of a run that is not finished, the cases that all arms have seen."""
    run = read_run_card(folder)
    latest: dict[tuple[str, str], Outcome] = {}
    stale = 0
    for outcome in read_log(folder / OUTCOMES, Outcome):
        if run.arms.get(outcome.arm) == outcome.configuration and outcome.task_version == run.task.version:
            latest[outcome.arm, outcome.case] = outcome
        else:
            stale += 1
    cases = sorted({case for _, case in latest})
    finished = [case for case in cases if all((arm, case) in latest for arm in run.arms)]
    outcomes = {arm: [latest[arm, case] for case in finished] for arm in run.arms}
    scores = score(run.task, outcomes, rounds=rounds, seed=seed)
    return RunReport(run=run, finished=len(finished), stale=stale, scores=scores)


def markdown(reports: Sequence[RunReport]) -> str:
    """Write reports as one Markdown text."""
    lines = ["# Replay", "", DISCLAIMER, ""]
    for one in reports:
        lines += [*_head(one), *_arms(one.scores), *_slices(one.scores), *_comparisons(one.scores)]
        lines += [*_influences(one.scores), *_failures(one.scores), *_leakage(one.run), *_origin(one)]
    return "\n".join(lines)


def _head(one: RunReport) -> Iterator[str]:
    run, scores = one.run, one.scores
    yield f"## {run.task.name}"
    yield ""
    yield (
        f"Data set {run.dataset}, {run.split} split: {scores.n} cases of {scores.groups} patients or groups "
        f"({', '.join(f'{label} {count}' for label, count in run.labels.items())})."
    )
    if one.finished < run.cases:
        yield f"**Not finished: {one.finished} of {run.cases} cases.** The numbers are over those."
    yield ""


def _arms(scores: Scores) -> Iterator[str]:
    yield f"95 % intervals: percentile bootstrap, {scores.rounds} draws of whole groups, seed {scores.seed}."
    yield "An arm without an answer is wrong. ECE and Brier: smaller is better."
    yield ""
    rows = [
        [arm.arm, str(arm.n), *(_number(arm.metrics.get(name), arm.n) for name in HEADINGS), str(arm.errors)]
        for arm in scores.arms
    ]
    yield from _table(["arm", "n", *HEADINGS.values(), "errors"], rows)


def _slices(scores: Scores) -> Iterator[str]:
    yield "Abstention and conflict, with Wilson intervals."
    yield "Disputed cases are those in which specialists and similar cases contradict each other."
    yield ""
    rows = [
        [
            arm.arm,
            *(_share(part) for part in (arm.coverage, arm.covered_accuracy)),
            *(_share(part) for part in (arm.disputed_accuracy, arm.undisputed_accuracy)),
        ]
        for arm in scores.arms
    ]
    headings = ["arm", "coverage", "accuracy where it answers", "accuracy, disputed", "accuracy, undisputed"]
    yield from _table(headings, rows)


def _comparisons(scores: Scores) -> Iterator[str]:
    if not scores.comparisons:
        return
    yield (
        f"Paired differences (arm − reference, n = {scores.n}, percentage points). The best specialist "
        "is the one with the largest balanced accuracy on these cases. p: exact McNemar for accuracy, "
        "paired bootstrap for balanced accuracy; p′: after Holm, over all rows."
    )
    yield ""
    headings = ["arm", "reference", "accuracy", "p", "p′", "balanced accuracy", "p", "p′"]
    yield from _table(headings, [_compared(one) for one in scores.comparisons])


def _compared(one: Comparison) -> list[str]:
    accuracy, balanced = one.differences["accuracy"], one.differences["balanced_accuracy"]
    return [
        one.arm,
        one.reference,
        _points(accuracy),
        _p(one.mcnemar),
        _p(one.adjusted["mcnemar"]),
        _points(balanced),
        _p(balanced.p),
        _p(one.adjusted["balanced_accuracy"]),
    ]


def _influences(scores: Scores) -> Iterator[str]:
    if not scores.influences:
        return
    yield "What evidence does to the generalist, against the generalist alone (Wilson intervals)."
    yield ""
    rows = [[one.arm, _share(one.rescued), _share(one.misled)] for one in scores.influences]
    yield from _table(["arm", "rescued: wrong → right", "misled: right → wrong"], rows)


def _failures(scores: Scores) -> Iterator[str]:
    if not scores.failures:
        return
    yield f"Cases without an answer ({len(scores.failures)}; they count as wrong):"
    yield ""
    for failure in scores.failures[:_SHOWN_FAILURES]:
        yield f"- {failure.arm}, {failure.case}: {failure.error}"
    if len(scores.failures) > _SHOWN_FAILURES:
        yield f"- and {len(scores.failures) - _SHOWN_FAILURES} more, in `{JSON}`"
    yield ""


def _leakage(run: RunCard) -> Iterator[str]:
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
    yield ""


def _origin(one: RunReport) -> Iterator[str]:
    run = one.run
    generalist, profile = (run.configuration.get(part, {}) for part in ("generalist", "profile"))
    named = [f"generalist {generalist.get('name', '–')}", f"profile {profile.get('profile', '–')}"]
    panel = run.configuration.get("panel", {})
    if isinstance(members := panel.get("members"), Mapping):
        named.append("panel " + ", ".join(f"{name} {version}" for name, version in members.items()))
    yield f"Made by gsco {run.versions.get('gsco', '')}: {'; '.join(named)}. Data {run.dataset_sha256[:12]}."
    yield ""


def _number(estimate: Estimate | None, n: int) -> str:
    if estimate is None:
        return "–"
    fewer = f" (n = {estimate.n})" if estimate.n != n else ""
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]{fewer}"


def _share(estimate: Estimate | None) -> str:
    if estimate is None:
        return "– (n = 0)"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}] (n = {estimate.n})"


def _points(found: Difference) -> str:
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    headings = list(headings)
    yield f"| {' | '.join(headings)} |"
    yield "|" + "---|" * len(headings)
    for row in rows:
        cells = (cell.replace("|", "\\|") for cell in row)
        yield f"| {' | '.join(cells)} |"
    yield ""
