"""How the decision does in subgroups of the test images: by age, sex, site, scanner and the like."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from ...case import Record
from ...models.data.labels import MISSING
from ..metrics.uncertainty import Estimate, share
from ..records import Outcome

FEW_GROUPS = 20
"""In a subgroup of fewer patients or groups nothing is said about the accuracy."""
NOT_GIVEN = "not given"
_MISSING = MISSING | {"", "unknown", "none", "-", "?"}
_AGES = (18.0, 40.0, 60.0, 80.0)
_FEW_VALUES = 6
"""So many numbers are values; more of them are put into bins."""
_MOST_VALUES = 12


class Subgroup(Record):
    """The test images that share a value of a column."""

    trait: str
    """The column."""
    value: str
    """One value of it, or a range."""
    n: int
    groups: int
    """Patients or groups."""
    accuracy: Estimate | None = None
    """None where they are too few."""


def subgroups(
    outcomes: Sequence[Outcome], traits: Mapping[str, Sequence[tuple[str, str]]]
) -> tuple[Subgroup, ...]:
    """Measure an arm by subgroup.

    Args:
        outcomes: of one arm.
        traits: column and value of what is known of each case, by its name.

    Returns:
        The subgroups of each column in turn, those without a value last. A column that has one value only
        is left out.
    """
    told = [dict(traits.get(one.case, ())) for one in outcomes]
    hits = np.array([one.right for one in outcomes], dtype=bool)
    groups = np.array([one.group for one in outcomes])
    found: list[Subgroup] = []
    for trait in dict.fromkeys(name for one in told for name in one):
        places = binned([one.get(trait, "") for one in told], trait)
        if len([value for value in places if value != NOT_GIVEN]) < 2:
            continue
        for value, chosen in places.items():
            members = np.isin(np.arange(len(hits)), chosen)
            patients = len(set(groups[members]))
            accuracy = share(hits, groups.tolist(), members) if patients >= FEW_GROUPS else None
            found.append(
                Subgroup(trait=trait, value=value, n=len(chosen), groups=patients, accuracy=accuracy)
            )
    return tuple(found)


def binned(values: Sequence[str], trait: str) -> dict[str, list[int]]:
    """Put values into bins: rows by the name of a value or range, in order, those without a value last.

    Ages go by 18, 40, 60 and 80 years, other numbers of more than six values by quartiles. Of more than
    twelve words the rarest are taken together.

    Example:
        >>> binned(["m", "f", "", "m"], "sex")
        {'f': [1], 'm': [0, 3], 'not given': [2]}
    """
    given = [place for place, value in enumerate(values) if value.casefold() not in _MISSING]
    numbers = {place: _number(values[place]) for place in given}
    numeric = {place: number for place, number in numbers.items() if number is not None}
    if given and len(numeric) == len(given) and len(set(numeric.values())) > _FEW_VALUES:
        found = _ranges(numeric, trait)
    else:
        counts = Counter(values[place] for place in given)
        kept = {value for value, _ in counts.most_common(_MOST_VALUES)}
        found = {value: [place for place in given if values[place] == value] for value in sorted(kept)}
        if rest := [place for place in given if values[place] not in kept]:
            found["other"] = rest
    if missing := sorted(set(range(len(values))) - set(given)):
        found[NOT_GIVEN] = missing
    return found


def _number(text: str) -> float | None:
    """A number, or an age as DICOM writes it: ``045Y``."""
    match = re.fullmatch(r"(-?\d+(?:[.,]\d+)?)Y?", text)
    return float(match[1].replace(",", ".")) if match else None


def _ranges(numbers: Mapping[int, float], trait: str) -> dict[str, list[int]]:
    edges = (
        _AGES
        if "age" in re.split(r"[^a-z]+", trait.casefold())
        else sorted({float(edge) for edge in np.quantile(list(numbers.values()), (0.25, 0.5, 0.75))})
    )
    bounds = [-np.inf, *edges, np.inf]
    found = {}
    for low, high in pairwise(bounds):
        if places := [place for place, number in numbers.items() if low <= number < high]:
            found[_range_name(low, high)] = places
    return found


def _range_name(low: float, high: float) -> str:
    if low == -np.inf:
        return f"under {high:g}"
    return f"{low:g} and over" if high == np.inf else f"{low:g} to under {high:g}"
