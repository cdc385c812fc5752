"""The metrics of closed answers: each is defined once, as what it is on many bootstrap draws at a time.

A metric is a function that takes answers and returns a kernel (see ``draws``). Its value on the cases
themselves is the kernel's on a draw that holds each case once, so that value and interval cannot disagree.

    @metric("accuracy", "accuracy", parts=lambda given: given.right.astype(np.float64))
    def accuracy(given: Answers) -> Kernel:
        return mean_of(given.right)

registers one: from then on it is in every ``report.json``, and in the report's table if it has a title.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .answers import Answers, Floats
from .draws import Kernel

KernelOf = Callable[[Answers], Kernel]


@dataclass(frozen=True)
class Metric:
    """A registered metric; called with answers, it returns its value, NaN where they do not determine it."""

    name: str
    title: str
    """Heading in the table of a report; empty where it is only in ``report.json``."""
    kernel: KernelOf
    stated: bool
    """Whether it only looks at cases with an answer and probabilities."""
    several: bool
    """Whether it says something new only where a case may have several labels."""
    parts: Callable[[Answers], Floats] | None
    """What each case adds to it, (n,), where it is a sum over cases; differences of such parts are tested."""

    def __call__(self, given: Answers) -> float:
        """Compute it on the cases."""
        return float(self.kernel(given)(np.ones((1, given.n)))[0])

    def n(self, given: Answers) -> int:
        """Count the cases that it is taken over."""
        return len(given.stated) if self.stated else given.n


METRICS: dict[str, Metric] = {}
"""In the order of a report."""


def metric(
    name: str,
    title: str = "",
    *,
    stated: bool = False,
    several: bool = False,
    parts: Callable[[Answers], Floats] | None = None,
) -> Callable[[KernelOf], Metric]:
    """Register a metric; see ``Metric`` for what is said of it."""

    def register(kernel_of: KernelOf) -> Metric:
        METRICS[name] = Metric(
            name, title, _of_stated(kernel_of) if stated else kernel_of, stated, several, parts
        )
        return METRICS[name]

    return register


def kernels(given: Answers) -> dict[str, Kernel]:
    """Return the kernel of each metric for these answers."""
    return {name: one.kernel(given) for name, one in METRICS.items()}


def contributions(given: Answers) -> dict[str, Floats]:
    """What each case adds to a metric that is a sum over cases, (n,); their differences can be tested."""
    return {
        name: one.parts(given)
        for name, one in METRICS.items()
        if one.parts is not None and one.n(given) == given.n
    }


def _of_stated(kernel_of: KernelOf) -> KernelOf:
    def on_stated(given: Answers) -> Kernel:
        stated = given.stated
        kernel = kernel_of(given.take(stated))
        return lambda weights: kernel(weights[:, stated])

    return on_stated
