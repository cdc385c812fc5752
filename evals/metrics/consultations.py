"""What an agent did on its way to an answer: which tools it called, how often, at what cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...case import Record
from .draws import Weights
from .uncertainty import Measure, mean


class Consultation(Record):
    """One case's way through the agent."""

    called: tuple[str, ...] = ()
    """Names of the tools, in the order of the calls."""
    wanted: tuple[str, ...] | None = None
    """Tools that the case needs; None where that is not known."""
    failed_calls: int = 0
    """Calls that a tool refused or failed on."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None


def right_tools(one: Consultation, *, strict: bool = False) -> bool:
    """Whether an agent called what the case needs.

    Args:
        one: with ``wanted``.
        strict: in that order and nothing else; otherwise each wanted tool at least so often as wanted.
    """
    wanted = one.wanted or ()
    return one.called == wanted if strict else not (Counter(wanted) - Counter(one.called))


def consultation_measures(consultations: Sequence[Consultation]) -> dict[str, Measure]:
    """Measure consultations; put intervals to them with ``uncertainty.estimate``.

    Returns:
        ``tool_choice`` (what is needed was called) and ``tool_choice_strict`` over the cases whose needs are
        known, ``first_tool`` (the first call was a needed one, or rightly none), ``calls``, ``failed_calls``
        (share of all calls), ``tokens``, ``seconds`` (mean) and ``seconds_p50``, ``seconds_p95``; what nobody
        noted is left out by ``estimate``.
    """
    known = np.array([one.wanted is not None for one in consultations], dtype=bool)
    calls = np.array([len(one.called) for one in consultations], dtype=np.float64)
    failed = np.array([one.failed_calls for one in consultations], dtype=np.float64)
    tokens = _noted([_tokens(one) for one in consultations])
    seconds = _noted([one.seconds for one in consultations])
    return {
        "tool_choice": mean(np.array([right_tools(one) for one in consultations], dtype=bool), known),
        "tool_choice_strict": mean(
            np.array([right_tools(one, strict=True) for one in consultations], dtype=bool), known
        ),
        "first_tool": mean(np.array([_first_right(one) for one in consultations], dtype=bool), known),
        "calls": mean(calls),
        "failed_calls": _share(failed, calls),
        "tokens": mean(np.nan_to_num(tokens), ~np.isnan(tokens)),
        "seconds": mean(np.nan_to_num(seconds), ~np.isnan(seconds)),
        "seconds_p50": quantile(seconds, 0.5),
        "seconds_p95": quantile(seconds, 0.95),
    }


def quantile(values: np.ndarray, share: float) -> Measure:
    """Measure the smallest value that a share of the cases does not exceed; NaN values are left out."""
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    ranked = values[order]

    def kernel(weights: Weights) -> np.ndarray:
        if not len(order):
            return np.full(len(weights), np.nan)
        counts = np.cumsum(weights[:, order], axis=1, dtype=np.float64)
        place = (counts >= share * counts[:, -1:] - 1e-9).argmax(1)
        return np.where(counts[:, -1] > 0, ranked[place], np.nan)

    value = float(kernel(np.ones((1, len(values)), dtype=np.float32))[0])
    return Measure(value, kernel, len(order))


def _share(part: np.ndarray, whole: np.ndarray) -> Measure:
    from .draws import divide

    value = float(part.sum() / whole.sum()) if whole.sum() else float("nan")
    return Measure(value, lambda weights: divide(weights @ part, weights @ whole), len(whole))


def _first_right(one: Consultation) -> bool:
    if not one.wanted:
        return not one.called
    return bool(one.called) and one.called[0] in one.wanted


def _tokens(one: Consultation) -> float | None:
    if one.prompt_tokens is None and one.completion_tokens is None:
        return None
    return (one.prompt_tokens or 0) + (one.completion_tokens or 0)


def _noted(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
