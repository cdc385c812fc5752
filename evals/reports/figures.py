"""The figures of a report, as SVG that stands in the page itself."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..arms import ADAPTIVE, ALONE, FUSED, GSCO, SPECIALIST, STACKING
from ..overall import Contrast
from ..scoring import ArmScore, Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart by colour-blind readers.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SHOWN = (ALONE.name, "mean", STACKING.name, GSCO.name, FUSED.name, ADAPTIVE.name)
"""Arms whose curves are drawn, beside the best specialist's."""
_STYLE: Any = {"font.size": 8, "svg.fonttype": "none", "axes.spines.top": False, "axes.spines.right": False}


def shown(arms: Sequence[ArmScore], best: str | None) -> list[ArmScore]:
    """Choose the arms whose curves are drawn."""
    return [arm for arm in arms if arm.arm in (best, *_SHOWN)]


def reliability(arms: Sequence[ArmScore]) -> str:
    """Accuracy by confidence; the area of a point grows with the number of its cases."""
    figure, axes = _figure(3.4, 3.2)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
    for colour, arm in zip(_COLOURS, arms, strict=False):
        bins = [bin for bin in arm.reliability if bin.n]
        total = sum(bin.n for bin in bins) or 1
        x, y = [bin.confidence for bin in bins], [bin.accuracy for bin in bins]
        axes.plot(x, y, color=colour, linewidth=1, label=_name(arm.arm))
        axes.scatter(x, y, s=[4 + 80 * bin.n / total for bin in bins], color=colour, alpha=0.6)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right")
    return _svg(figure, axes, "Reliability")


def risk_coverage(arms: Sequence[ArmScore]) -> str:
    """Error by the share of cases that are answered, the surest first."""
    figure, axes = _figure(3.4, 3.2)
    for colour, arm in zip(_COLOURS, arms, strict=False):
        if arm.selective is not None:
            covered, risk = zip(*arm.selective.curve, strict=True)
            axes.plot(covered, risk, color=colour, linewidth=1.2, label=_name(arm.arm))
    axes.axvline(0.8, color="#999999", linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, 1), xlabel="coverage", ylabel="error")
    axes.set_ylim(bottom=0)
    return _svg(figure, axes, "Risk and coverage")


def confusion(arm: ArmScore, options: Sequence[str]) -> str:
    """Cases by what is true and what was said, each row coloured by its shares."""
    if not arm.confusion:
        return ""
    import numpy as np

    table = np.array(arm.confusion)
    if not table[:, -1].any():
        table = table[:, :-1]
    said = [*options, "no answer"][: table.shape[1]]
    side = 1.2 + 0.42 * len(options)
    figure, axes = _figure(side + 0.4, side)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(range(len(said)), [_short(option) for option in said], rotation=45, ha="right")
    axes.set_yticks(range(len(options)), [_short(option) for option in options])
    axes.set(xlabel="said", ylabel="true", title=_name(arm.arm))
    return _svg(figure, axes, f"Confusion of {arm.arm}", legend=False)


def forest(compared: Sequence[Comparison | Contrast], reference: str) -> str:
    """Paired differences of accuracy against one reference, with their intervals."""
    rows = [one for one in compared if one.reference == reference]
    if not rows:
        return ""
    figure, axes = _figure(4.6, 0.7 + 0.22 * len(rows))
    axes.axvline(0, color="#999999", linewidth=0.8)
    for place, one in enumerate(reversed(rows)):
        found = one.differences["accuracy"]
        colour = _COLOURS[2] if found.low > 0 else _COLOURS[1] if found.high < 0 else "#666666"
        axes.plot([100 * found.low, 100 * found.high], [place, place], color=colour, linewidth=1.4)
        axes.plot([100 * found.value], [place], "o", color=colour, markersize=4)
    axes.set_yticks(range(len(rows)), [_name(one.arm) for one in reversed(rows)])
    axes.set(xlabel=f"accuracy − that of {_name(reference)}, percentage points")
    return _svg(figure, axes, f"Differences to {reference}", legend=False)


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.add_subplot()


def _svg(figure: Figure, axes: Any, title: str, *, legend: bool = True) -> str:
    import matplotlib as mpl

    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=6.5)
    buffer = io.StringIO()
    # Fixed ids and no date: the same numbers give the same page.
    with mpl.rc_context(_STYLE | {"svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": title})
    text = buffer.getvalue()
    return re.sub(r"^.*?(?=<svg)", "", text, flags=re.S)


def _name(arm: str) -> str:
    return arm.removeprefix(SPECIALIST)


def _short(option: str) -> str:
    return option if len(option) <= 16 else option[:15] + "…"
