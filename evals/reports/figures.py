"""The figure of a set, as SVG that stands in the page itself."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..arms import ALONE, GSCO, PAPER, SPECIALIST
from ..metrics.uncertainty import Estimate
from ..overall import Mean
from ..scoring import ArmScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart by colour-blind readers.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SHOWN = (ALONE.name, PAPER.name, GSCO.name)
"""Arms whose curves are drawn, beside that of the best single source."""
_Drawn = TypeVar("_Drawn", str, bytes)
_STYLE: Any = {"font.size": 8, "svg.fonttype": "none", "axes.spines.top": False, "axes.spines.right": False}


def overview(arms: Sequence[ArmScore], best: str, title: str) -> str:
    """Draw one set: every arm's accuracy with its interval, reliability, and risk against coverage."""
    return _overview(arms, best, lambda figure: _svg(figure, title))


def overview_png(arms: Sequence[ArmScore], best: str) -> bytes:
    """Draw what ``overview`` draws as PNG, for pages that are laid out as PDF too."""
    return _overview(arms, best, _png)


def _overview(arms: Sequence[ArmScore], best: str, written: Callable[[Figure], _Drawn]) -> _Drawn:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10.2, max(3.0, 0.6 + 0.24 * len(arms))), layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
        _accuracies(left, [(arm.arm, arm.metrics["accuracy"]) for arm in arms], best)
        shown = [arm for arm in arms if arm.arm in (best, *_SHOWN)]
        _reliability(middle, shown)
        _risk_coverage(right, shown)
        return written(figure)


def means(several: Sequence[Mean], title: str) -> str:
    """Draw every arm's accuracy with its interval, on the mean of several sets."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, max(2.0, 0.6 + 0.24 * len(several))), layout="constrained")
        _accuracies(figure.subplots(), [(one.arm, one.metrics["accuracy"]) for one in several], "")
        return _svg(figure, title)


def _accuracies(axes: Axes, arms: Sequence[tuple[str, Estimate]], best: str) -> None:
    for place, (name, found) in enumerate(reversed(arms)):
        colour = _COLOURS[1] if name == GSCO.name else _COLOURS[0] if name == best else "#666666"
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=1.4)
        axes.plot([found.value], [place], "o", color=colour, markersize=4)
    names = [_name(name) + (" (best single source)" if name == best else "") for name, _ in reversed(arms)]
    axes.set_yticks(range(len(arms)), names)
    axes.set(xlabel="accuracy")


def _reliability(axes: Axes, arms: Sequence[ArmScore]) -> None:
    """How many answers are right by how sure they are; the area of a point grows with their number."""
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
    for colour, arm in zip(_COLOURS, arms, strict=False):
        total = sum(one.n for one in arm.reliability) or 1
        x, y = [one.confidence for one in arm.reliability], [one.accuracy for one in arm.reliability]
        axes.plot(x, y, color=colour, linewidth=1, label=_name(arm.arm))
        axes.scatter(x, y, s=[4 + 80 * one.n / total for one in arm.reliability], color=colour, alpha=0.6)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right")
    if arms:
        axes.legend(frameon=False, fontsize=6.5)


def _risk_coverage(axes: Axes, arms: Sequence[ArmScore]) -> None:
    """Error by the share of cases that are answered, the surest first."""
    for colour, arm in zip(_COLOURS, arms, strict=False):
        if arm.selective is not None:
            covered, risk = zip(*arm.selective.curve, strict=True)
            axes.plot(covered, risk, color=colour, linewidth=1.2)
    axes.axvline(0.8, color="#999999", linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, 1), xlabel="coverage", ylabel="error")
    axes.set_ylim(bottom=0)


def _svg(figure: Figure, title: str) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    # Fixed ids and no date: the same numbers give the same page.
    with mpl.rc_context(_STYLE | {"svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": title})
    return re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), flags=re.S)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def _name(arm: str) -> str:
    return arm.removeprefix(SPECIALIST)
