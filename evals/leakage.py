"""Whether the case bank knows the cases that are to be replayed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from ..errors import ConfigurationError
from ..tools.stores.protocol import Filter
from .records import Leakage

if TYPE_CHECKING:
    from ..case import Case
    from ..tools.stores.protocol import CaseStore, KnownCase

LeakPolicy = Literal["refuse", "exclude"]


def known_cases(store: CaseStore, task: str) -> list[KnownCase]:
    """List the known cases of a task.

    Raises:
        StoreError: the store cannot be read.
    """
    return [entry.case for entry in store.scan(Filter((task,)))]


def bank_digest(known: Iterable[KnownCase]) -> str:
    """Hash which cases are known with which labels, in twelve hex digits."""
    lines = sorted(f"{case.sha256} {'+'.join(case.labels)}" for case in known)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def find_leaks(cases: Sequence[Case], known: Iterable[KnownCase]) -> Leakage:
    """Compare cases with the known cases of their task, by image and by patient or group."""
    known = list(known)
    images = {case.sha256 for case in known}
    groups = {case.group for case in known if case.group}
    same_image = [case.id for case in cases if any(image.sha256 in images for image in case.images)]
    same_group = [case.id for case in cases if case.group in groups]
    return Leakage(
        checked=len(cases),
        bank=len(known),
        same_image=tuple(same_image),
        same_group=tuple(sorted({*same_group} - {*same_image})),
    )


def check_leaks(found: Leakage, policy: LeakPolicy) -> None:
    """Refuse a run whose cases are known, unless the policy is to exclude them from retrieval.

    Retrieval never returns a case itself or its patient, whatever the policy. But a bank that holds test
    cases was made from them, and then so may have been the specialists.

    Raises:
        ConfigurationError: there is an overlap, and the policy is to refuse it.
    """
    if found.any and policy == "refuse":
        examples = [*found.same_image, *found.same_group][:3]
        raise ConfigurationError(
            f"of {found.checked} cases {len(found.same_image)} are in the case bank and "
            f"{len(found.same_group)} share a group with a known case, for example {', '.join(examples)}: "
            "build the bank without them, or let them be excluded from retrieval (--leaks exclude), "
            "which the report will state"
        )
