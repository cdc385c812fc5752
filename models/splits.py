"""Train, validation and test splits that no patient crosses."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal, get_args

from ..errors import ConfigurationError

Split = Literal["train", "val", "test"]
Shares = tuple[float, float, float]

SPLITS: tuple[Split, ...] = get_args(Split)


def draw_splits(
    groups: Sequence[str], labels: Sequence[tuple[str, ...]], *, seed: int, shares: Shares
) -> list[Split]:
    """Draw splits that no group crosses, stratified by label as far as the groups allow.

    A group's stratum is its rarest label. Inside a stratum the larger groups are placed first, each
    into the split that lacks most; from three groups on every split with a share gets at least one.

    Returns:
        One split per image.
    """
    if len(shares) != 3 or min(shares) < 0 or not 0.999 < sum(shares) < 1.001:
        raise ConfigurationError(f"shares must be three numbers that add up to one, not {shares}")
    frequency = Counter(label for several in labels for label in several)
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    strata: dict[str, list[str]] = defaultdict(list)
    for group, indices in members.items():
        carried = {label for index in indices for label in labels[index]}
        strata[min(carried, key=lambda label: (frequency[label], label), default="")].append(group)
    chosen: dict[str, Split] = {}
    for stratum in sorted(strata):
        order = sorted(strata[stratum])
        random.Random(f"{seed}/{stratum}").shuffle(order)
        order.sort(key=lambda group: -len(members[group]))
        chosen.update(_fill_splits(order, [len(members[group]) for group in order], shares))
    return [chosen[group] for group in groups]


def uncrossed(groups: Sequence[str], splits: Sequence[Split]) -> list[bool]:
    """Say which images stay so that no group crosses splits: test keeps its groups, then val.

    Dropping is the only repair that leaves a published test split as it is.
    """
    keeps: dict[str, Split] = {}
    for group, split in zip(groups, splits, strict=True):
        if SPLITS.index(split) >= SPLITS.index(keeps.get(group, split)):
            keeps[group] = split
    return [keeps[group] == split for group, split in zip(groups, splits, strict=True)]


def _fill_splits(groups: Sequence[str], sizes: Sequence[int], shares: Shares) -> dict[str, Split]:
    lack: dict[Split, float] = {
        split: share * sum(sizes) for split, share in zip(SPLITS, shares, strict=True) if share
    }
    first = list(lack) if len(groups) >= len(lack) else []
    chosen: dict[str, Split] = {}
    for position, (group, size) in enumerate(zip(groups, sizes, strict=True)):
        split = first[position] if position < len(first) else max(lack, key=lambda name: lack[name])
        chosen[group] = split
        lack[split] -= size
    return chosen
