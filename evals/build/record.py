"""What a build writes down of itself, and what its numbers come to in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from ...case import Record, TaskKind
from ...graphs.certificate import Certificate
from ..arms import GSCO, KNN, SPECIALIST
from ..metrics.uncertainty import Estimate
from ..scoring import Scores
from .parts import Part
from .subgroups import FEW_GROUPS, Subgroup

BASELINE = f"{SPECIALIST}probe"
"""Logistic regression on the frozen backbone, with its temperature."""
FEW_TEST_GROUPS = FEW_GROUPS
"""With fewer groups of test images nothing is said about how good it is."""
FEW_IMAGES = 10
"""A class with fewer test images cannot be measured."""
ERROR_LIMITS = (0.05, 0.10)
"""Of which it is told what can be promised, where none was asked for."""


class ArmNumbers(Record):
    """What one arm came to on the test images."""

    arm: str
    accuracy: Estimate
    balanced_accuracy: Estimate | None = None
    log_loss: Estimate | None = None
    ece: Estimate | None = None


class Promise(Record):
    """What can be promised of answers given alone."""

    max_error: float
    words: str
    coverage: float | None = None
    """Share of the cases that are answered alone; None where nothing can be promised."""


class VersionComparison(Record):
    """How a version that was made by adding images compares with the one before, on the same test images."""

    before: str
    """Its version."""
    added: int
    """Images that were new."""
    accuracy: tuple[float, float, float]
    """New minus old, with its 95 % interval."""
    log_loss: tuple[float, float, float]
    cases: int

    @property
    def worse(self) -> bool:
        """Whether the new version is worse: beyond noise in either number, or in both of them."""
        surely = self.accuracy[2] < 0 or self.log_loss[1] > 0
        return surely or (self.accuracy[0] < 0 and self.log_loss[0] > 0)

    @property
    def words(self) -> str:
        """The comparison in a sentence."""
        return (
            f"With {self.added} more images accuracy changes by {self.accuracy[0]:+.3f} "
            f"[{self.accuracy[1]:+.3f}, {self.accuracy[2]:+.3f}] and log loss by {self.log_loss[0]:+.3f} "
            f"[{self.log_loss[1]:+.3f}, {self.log_loss[2]:+.3f}] on the same {self.cases} test images"
        )


class BuildRecord(Record):
    """``build.json``: what was built from what, and what it came to."""

    format: Literal[1] = 1
    name: str
    version: str
    inputs: str
    """Hash of everything that decides the result."""
    kind: TaskKind
    folder: str
    """Where the images were."""
    dataset: str
    """Hash of their content."""
    speed: str
    seed: int
    counts: Mapping[str, Mapping[Part, int]]
    """Images by label and part."""
    images: Mapping[Part, int]
    specialists: Mapping[str, str]
    """Name to the first digits of the weights' hash."""
    retriever: str
    fitted: bool
    """Whether the decision was fitted; else the sources are weighed by their reliability."""
    chosen: tuple[str, ...] = ()
    """Sources that decide."""
    test_images: int = 0
    test_groups: int = 0
    arms: tuple[ArmNumbers, ...] = ()
    best_source: str = ""
    majority: float = 0.0
    """Accuracy of always saying the most frequent label of the training images, on the test images."""
    subgroups: tuple[Subgroup, ...] = ()
    """What ships, by age, sex, site and the like, where a table tells them."""
    promises: tuple[Promise, ...] = ()
    grown: VersionComparison | None = None
    notes: tuple[str, ...] = ()
    """What was wrong or is odd with the data and the models."""
    gsco: str = ""
    seconds: Mapping[str, float] = Field(default_factory=dict)
    """By stage."""

    def arm(self, name: str) -> ArmNumbers | None:
        """The numbers of an arm."""
        return next((one for one in self.arms if one.arm == name), None)

    @property
    def unmeasurable(self) -> tuple[str, ...]:
        """Labels with so few test images that nothing can be said about them."""
        return tuple(label for label, of in self.counts.items() if of.get("test", 0) < FEW_IMAGES)

    @property
    def verdict(self) -> str:
        """What it is worth, in a few sentences."""
        own = self.arm(GSCO.name)
        if own is None or self.test_groups < FEW_TEST_GROUPS:
            return (
                f"Not measurable: the {self.test_images} test images of {self.test_groups} patients or "
                "groups are too few to say how good it is. Add images before relying on it."
            )
        found = own.accuracy
        right = "all labels right" if self.kind is TaskKind.MULTILABEL else "right"
        said = (
            f"{right} in {found.value:.1%} of {self.test_images} test images (95 % interval "
            f"{found.low:.1%} to {found.high:.1%}; {self.test_groups} patients or groups)"
        )
        if found.low <= self.majority:
            first = (
                f"Not better than guessing: {said}, where always saying the most frequent label gives "
                f"{self.majority:.1%}."
            )
        else:
            first = f"Measured: {said}; always saying the most frequent label gives {self.majority:.1%}."
        return " ".join([first, *self._compared(own), *self._unmeasured()])

    def _compared(self, own: ArmNumbers) -> list[str]:
        others = [
            (words, one.accuracy.value)
            for words, name in (
                (f"the best single source, {_in_words(self.best_source)}", self.best_source),
                ("a logistic regression on the frozen backbone", BASELINE),
            )
            if (one := self.arm(name)) is not None
        ]
        if not others:
            return []
        if self.best_source == BASELINE:
            others = [("the best single source, a logistic regression on the frozen backbone,", others[0][1])]
        told = " and ".join(f"{words} {value:.1%}" for words, value in others)
        behind = any(value > own.accuracy.value for _, value in others)
        return [f"On the same images {told}{'; the collaboration does not help here' if behind else ''}."]

    def _unmeasured(self) -> list[str]:
        if not self.unmeasurable:
            return []
        names = ", ".join(f"{label} ({self.counts[label].get('test', 0)})" for label in self.unmeasurable)
        return [f"Too few test images to say anything about: {names}."]


def _in_words(source: str) -> str:
    return "similar cases" if source == KNN.name else source.replace(":", " ")


def arm_numbers(scores: Scores) -> tuple[ArmNumbers, ...]:
    """The numbers of every arm, in the order of a report."""
    return tuple(
        ArmNumbers(
            arm=one.arm,
            accuracy=one.metrics["accuracy"],
            balanced_accuracy=one.metrics.get("balanced_accuracy"),
            log_loss=one.metrics.get("log_loss"),
            ece=one.metrics.get("ece"),
        )
        for one in scores.arms
    )


def promise(certificate: Certificate) -> Promise:
    """What a certificate promises."""
    return Promise(
        max_error=certificate.max_error,
        words=certificate.words,
        coverage=None if certificate.limit is None else round(certificate.coverage, 4),
    )
