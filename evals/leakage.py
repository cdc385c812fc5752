"""Whether the case bank knows the cases that are to be replayed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import ConfigurationError, ImageError
from ..images.fingerprints import BITS, Fingerprints, fingerprint, fingerprint_of_jpeg, stacked, twins
from ..tools.stores.protocol import Filter, KnownCase
from .records import Leakage, NearDuplicate

if TYPE_CHECKING:
    from .._support.progress import Progress
    from ..case import Case
    from ..images import ImageStore
    from ..models.specialist.panel import Panel
    from ..tools.stores.protocol import CaseStore
    from .cases import EvalCase

LeakPolicy = Literal["refuse", "exclude", "drop"]
"""What to do with cases that the bank knows: not run at all; run them, and let retrieval not return those
known cases; or leave them out of the run."""


@dataclass(frozen=True)
class Bank:
    """What a store knows of a task."""

    cases: tuple[KnownCase, ...]
    pictured: tuple[int, ...]
    """Places of the cases that have a thumbnail; the others cannot be compared by how they look."""
    fingerprints: Fingerprints
    """Of those."""

    @property
    def digest(self) -> str:
        """Which cases are known with which labels."""
        return bank_digest(self.cases)


def read_bank(store: CaseStore, task: str) -> Bank:
    """Read the known cases of a task, and how they look.

    Raises:
        StoreError: the store cannot be read.
    """
    cases, pictured, prints = [], [], []
    for entry in store.scan(Filter((task,))):
        if entry.thumbnail:
            pictured.append(len(cases))
            prints.append(fingerprint_of_jpeg(entry.thumbnail))
        cases.append(entry.case)
    return Bank(tuple(cases), tuple(pictured), stacked(prints))


def bank_of(asked: Sequence[EvalCase], task: str, images: ImageStore) -> Bank:
    """Take cases of a data set for known ones, to compare two of its splits."""
    usable = [(one, one.case.images[0]) for one in asked if not isinstance(one.case, ImageError)]
    known = tuple(
        KnownCase(sha256=image.sha256, task=task, labels=one.truth, group=one.group, source=one.id)
        for one, image in usable
    )
    prints = stacked(fingerprint(images.get(image)) for _, image in usable)
    return Bank(known, tuple(range(len(known))), prints)


def bank_digest(known: Iterable[KnownCase]) -> str:
    """Hash which cases are known with which labels, in twelve hex digits."""
    lines = sorted(f"{case.sha256} {'+'.join(case.labels)}" for case in known)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def find_leaks(
    cases: Sequence[Case], bank: Bank, images: ImageStore | None = None, progress: Progress | None = None
) -> Leakage:
    """Compare cases with the known cases of their task: by image, by patient or group, and by how they look.

    Args:
        cases: those to be replayed.
        bank: see ``read_bank``.
        images: where their images are; None compares by image and group only.
        progress: advanced by each case that is looked at.
    """
    known_images = {case.sha256 for case in bank.cases}
    known_groups = {case.group for case in bank.cases if case.group}
    same_image = [case.id for case in cases if any(image.sha256 in known_images for image in case.images)]
    same_group = [case.id for case in cases if case.group in known_groups]
    sure = {*same_image, *same_group}
    near = [] if images is None else _near(cases, bank, images, progress)
    return Leakage(
        checked=len(cases),
        bank=len(bank.cases),
        same_image=tuple(same_image),
        same_group=tuple(sorted({*same_group} - {*same_image})),
        near_duplicates=tuple(one for one in near if one.case not in sure),
        unseen=len(bank.cases) - len(bank.pictured) if images is not None else len(bank.cases),
    )


def _near(
    cases: Sequence[Case], bank: Bank, images: ImageStore, progress: Progress | None
) -> list[NearDuplicate]:
    owners, prints = [], []
    for case in cases:
        for image in case.images:
            try:
                prints.append(fingerprint(images.get(image)))
            except ImageError:
                # A picture that cannot be read again is none that could be compared.
                prints.append(np.zeros(BITS, dtype=bool))
            owners.append(case.id)
        if progress is not None:
            progress.advance()
    found: dict[str, NearDuplicate] = {}
    for row, place, distance in twins(stacked(prints), bank.fingerprints):
        known = bank.cases[bank.pictured[place]]
        one = NearDuplicate(case=owners[row], known=known.sha256, source=known.source, distance=distance)
        before = found.get(one.case)
        if before is None or one.distance < before.distance:
            found[one.case] = one
    return list(found.values())


def check_leaks(found: Leakage, policy: LeakPolicy) -> None:
    """Refuse a run whose cases are known, unless the policy says what else to do with them.

    Retrieval never returns a case itself or its patient, whatever the policy. But a bank that holds test
    cases was made from them, and then so may have been the specialists. A case that only looks like a known
    one is no certain leak: it is told, and left out where the policy is to drop.

    Raises:
        ConfigurationError: an image or a group is known, and the policy is to refuse it.
    """
    if found.any and policy == "refuse":
        examples = [*found.same_image, *found.same_group][:3]
        raise ConfigurationError(
            f"of {found.checked} cases {len(found.same_image)} are in the case bank and "
            f"{len(found.same_group)} share a group with a known case, for example {', '.join(examples)}: "
            "build the bank without them, let them be left out (--leaks drop), or let them be excluded from "
            "retrieval (--leaks exclude); the report will state it"
        )


def check_training(panel: Panel | None, dataset: str, sha256: str, split: str) -> None:
    """Refuse cases that trained a specialist of their task.

    Args:
        panel: the specialists.
        dataset: name of the data set.
        sha256: its hash.
        split: of the cases.

    Raises:
        ConfigurationError: a specialist was trained on this split of this data set.
    """
    members = {} if panel is None else panel.members
    trained = [
        name
        for name, member in members.items()
        if split == "train"
        and member.card.data is not None
        and (member.card.data.sha256 == sha256 or member.card.data.name == dataset)
    ]
    if trained:
        raise ConfigurationError(
            f"the {split} split of {dataset} trained the specialists {', '.join(trained)}, which are more "
            "confident on it than on new cases: use another split (--split val), or unseen images"
        )


def without_leaks(found: Leakage) -> Leakage:
    """Say that all that was found is left out of the run."""
    return found.model_copy(update={"dropped": tuple(sorted(found.suspects))})
