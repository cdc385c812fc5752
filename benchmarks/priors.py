"""Measure the accuracy of a specialist recovered by shifting the threshold or re-estimating the class prior.

A specialist may rank cases well and still call too many of them ill, where illness is rarer than it was in
training. Each row here is the same specialist's probabilities with another rule of decision; only the last
one looks at the test labels, and says what no rule could exceed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._support.jsonl import write_atomically
from ..case import Record
from ..errors import ConfigurationError
from ..evals.metrics.uncertainty import Difference, Estimate, Measure, estimate, paired
from ..models.metrics.answers import Answers
from ..models.metrics.registry import METRICS, kernels
from .prior_shift import Floats, fit_threshold, reestimate_prior, under_prior

if TYPE_CHECKING:
    from ..models.dataset import Dataset
    from ..models.specialist.assessment import Outputs
    from ..models.specialist.specialist import TimmSpecialist

JSON = "priors.json"
MARKDOWN = "priors.md"
TOLD = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece")
PLAIN = "likelier label"
BOUND = "best threshold"


class Rule(Record):
    """One rule of decision on the test split."""

    name: str
    about: str
    threshold: float | None = None
    """On the probability of the second label; None where the likelier label is said."""
    metrics: Mapping[str, Estimate]
    against_plain: Mapping[str, Difference]
    """Paired bootstrap, minus the likelier label under the training prior."""


class Priors(Record):
    """A specialist's rules."""

    specialist: str
    dataset: str
    dataset_sha256: str
    cases: int
    groups: int
    trained: Mapping[str, float]
    """Share of each label in training."""
    estimated: Mapping[str, float]
    """Share in the test split, as estimated without its labels."""
    true: Mapping[str, float]
    """Share in the test split."""
    rules: tuple[Rule, ...]


def priors(specialist: TimmSpecialist, dataset: Dataset, *, seed: int = 0, quiet: bool = False) -> Priors:
    """Try every rule on the test split.

    Args:
        specialist: of two labels, with a decision by the likelier label.
        dataset: with validation and test images.
        seed: of the bootstrap.
        quiet: show no progress.

    Raises:
        ConfigurationError: there are more than two labels, or a split is missing.
        SpecialistError: an image cannot be read.
    """
    from ..models.specialist.assessment import run_split

    card = specialist.card
    if len(card.labels) != 2 or card.multilabel:
        raise ConfigurationError(f"{card.name} has {len(card.labels)} labels; this compares rules for two")
    for split in ("val", "test"):
        if not dataset.split(split):
            raise ConfigurationError(f"data set {dataset.name!r} has no {split} images")
    validation, test = (
        run_split(specialist, dataset.split(split), title=split, quiet=quiet) for split in ("val", "test")
    )
    counts = dataset.counts()["train"]
    trained = np.array([counts.get(label, 0) for label in card.labels], dtype=np.float64)
    rules, estimated = compared(validation, test, card.temperature, trained / trained.sum(), seed=seed)
    return Priors(
        specialist=f"{card.task}/{card.name}",
        dataset=dataset.name,
        dataset_sha256=dataset.sha256,
        cases=len(test.truth),
        groups=len(set(test.groups)),
        trained=_named(trained / trained.sum(), card.labels),
        estimated=_named(estimated, card.labels),
        true=_named(np.bincount(test.truth, minlength=2) / len(test.truth), card.labels),
        rules=rules,
    )


def compared(
    validation: Outputs, test: Outputs, temperature: float, trained: Floats, *, seed: int = 0
) -> tuple[tuple[Rule, ...], Floats]:
    """Compare rules on the logits of two labels.

    Args:
        validation: what thresholds are fitted on.
        test: what they are measured on.
        temperature: of the calibration.
        trained: share of each label in training, (2,).
        seed: of the bootstrap.

    Returns:
        The rules, and the prior that was estimated from the test logits alone.
    """
    known, asked = (_probabilities(one, temperature) for one in (validation, test))
    positive = validation.truth == 1
    estimated = reestimate_prior(asked, trained)
    bound = fit_threshold(asked[:, 1], test.truth == 1)
    decided = {
        PLAIN: (asked, 0.5, "calibrated on validation, the training data's prior"),
        "equal priors": (under_prior(asked, trained, np.full(2, 0.5)), 0.5, "as if both were as frequent"),
        "estimated prior": (estimated.probabilities, 0.5, "estimated from the unlabelled test images"),
        "validation threshold": (asked, fit_threshold(known[:, 1], positive), "right most often there"),
        "balanced threshold": (
            asked,
            fit_threshold(known[:, 1], positive, balanced=True),
            "best balanced accuracy on validation",
        ),
        BOUND: (asked, bound, "looks at the test labels"),
    }
    measures = {
        name: _measures(probabilities, test.truth, threshold)
        for name, (probabilities, threshold, _) in decided.items()
    }
    rules = tuple(
        Rule(
            name=name,
            about=about,
            threshold=None if threshold == 0.5 else round(threshold, 4),
            metrics=estimate(measures[name], test.groups, seed=seed),
            against_plain={}
            if name == PLAIN
            else paired(measures[name], measures[PLAIN], test.groups, seed=seed),
        )
        for name, (_, threshold, about) in decided.items()
    )
    return rules, estimated.prior


def _probabilities(outputs: Outputs, temperature: float) -> Floats:
    """Return calibrated probabilities under the training prior: any correction of the card is left out."""
    from ..models.specialist.calibration import softmax

    return softmax(outputs.logits.astype(np.float64) / temperature)


def _measures(probabilities: Floats, truth: np.ndarray, threshold: float) -> dict[str, Measure]:
    said = (probabilities[:, 1] >= threshold).astype(int)
    given = Answers(
        truth=np.eye(2, dtype=bool)[truth],
        said=np.eye(2, dtype=bool)[said],
        answered=np.ones(len(truth), dtype=bool),
        probabilities=probabilities,
        exclusive=True,
    )
    on_draws = kernels(given)
    return {name: Measure(METRICS[name](given), on_draws[name], given.n) for name in TOLD}


def _named(shares: Floats, labels: tuple[str, ...]) -> dict[str, float]:
    return {label: round(float(share), 4) for label, share in zip(labels, shares, strict=True)}


def write_priors(found: Sequence[Priors], out: Path, command: str) -> None:
    """Write the rules of specialists in full, and as tables."""
    out.mkdir(parents=True, exist_ok=True)
    content = {"command": command, "specialists": [one.model_dump(mode="json") for one in found]}
    write_atomically(out / JSON, json.dumps(content, indent=1) + "\n")
    write_atomically(out / MARKDOWN, "\n".join([*table(found), f"`{command}`", ""]))


def table(found: Sequence[Priors]) -> Iterator[str]:
    """Lay the rules out in Markdown, and their mean over the specialists where there are several."""
    for one in found:
        yield from _one_table(one)
    if len(found) > 1:
        yield f"**Mean of the {len(found)}** (smallest to largest)"
        yield ""
        yield f"| rule | {' | '.join(TOLD)} |"
        yield "|" + "---|" * (len(TOLD) + 1)
        for rules in zip(*(one.rules for one in found), strict=True):
            yield f"| {rules[0].name} | {' | '.join(_spread(rules, name) for name in TOLD)} |"
        yield ""


def _spread(rules: Sequence[Rule], name: str) -> str:
    values = [rule.metrics[name].value for rule in rules if name in rule.metrics]
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})" if values else "–"


def _one_table(found: Priors) -> Iterator[str]:
    shares = "; ".join(
        f"{title} {', '.join(f'{label} {share:.3f}' for label, share in one.items())}"
        for title, one in (("training", found.trained), ("test", found.true), ("estimated", found.estimated))
    )
    yield f"**{found.specialist}** on the test split of {found.dataset}, n = {found.cases}. Shares: {shares}."
    yield ""
    yield f"| rule | threshold | {' | '.join(TOLD)} | points of accuracy against the likelier label |"
    yield "|" + "---|" * (len(TOLD) + 3)
    for rule in found.rules:
        numbers = [_interval(rule.metrics.get(name)) for name in TOLD]
        threshold = "0.5" if rule.threshold is None else f"{rule.threshold:.3f}"
        gain = _points(rule.against_plain.get("accuracy"))
        yield f"| {rule.name}: {rule.about} | {threshold} | {' | '.join(numbers)} | {gain} |"
    yield ""


def _interval(one: Estimate | None) -> str:
    return "–" if one is None else f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _points(gain: Difference | None) -> str:
    if gain is None:
        return "–"
    return f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
