"""Single cases for a reader: whom the evidence rescued, whom it misled, and the worst ones."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import GscoError
from ..arms import ALONE, GSCO, PAPER
from ..outcomes import gathered
from ..records import CaseEvidence, Outcome, read_run_card

if TYPE_CHECKING:
    from ...images import ImageStore

SHOWN = 8
_SIDE = 112


@dataclass(frozen=True)
class GalleryCase:
    """One case as a reader sees it."""

    case: str
    truth: str
    said: Mapping[str, str]
    """By arm or specialist, what it said and how sure it was."""
    neighbours: str
    image: str
    """Data address of a small image; empty where there is none to show."""


@dataclass(frozen=True)
class Gallery:
    """Cases of one kind."""

    title: str
    explained: str
    total: int
    """How many there are; some are shown."""
    cases: Sequence[GalleryCase]


def galleries(
    folder: Path, outcomes: Mapping[str, Sequence[Outcome]], images: ImageStore | None
) -> list[Gallery]:
    """Choose cases of a run: those in which the deciding arm was surest come first.

    Args:
        folder: of the run.
        outcomes: by arm, in the same order of cases.
        images: where the images are; None shows none.
    """
    final = next((name for name in (GSCO.name, PAPER.name, ALONE.name) if name in outcomes), None)
    if final is None:
        return []
    pairs = list(zip(outcomes.get(ALONE.name, ()), outcomes.get(final, ()), strict=False))
    kinds = [
        (
            "Rescued",
            f"the generalist alone is wrong, {final} is right",
            [both for alone, both in pairs if both.right and not alone.right and alone.error is None],
        ),
        (
            "Misled",
            f"the generalist alone is right, {final} is wrong",
            [both for alone, both in pairs if alone.right and not both.right and both.error is None],
        ),
        (
            "Worst",
            f"{final} is wrong and surest of it",
            [one for one in outcomes[final] if not one.right and one.error is None],
        ),
    ]
    chosen = {title: sorted(found, key=_surest)[:SHOWN] for title, _, found in kinds}
    names = {one.case for several in chosen.values() for one in several}
    evidence = gathered(folder, read_run_card(folder))
    said = {name: {} for name in names}
    for arm, several in outcomes.items():
        for outcome in several:
            if outcome.case in names:
                said[outcome.case][arm] = outcome
    shown = {name: _case(said[name], evidence.get(name), images) for name in names}
    return [
        Gallery(title, explained, len(found), [shown[one.case] for one in chosen[title]])
        for title, explained, found in kinds
        if found
    ]


def _surest(outcome: Outcome) -> tuple[float, str]:
    return (-(outcome.confidence or 0.0), outcome.case)


def _case(said: Mapping[str, Outcome], found: CaseEvidence | None, images: ImageStore | None) -> GalleryCase:
    first = next(iter(said.values()))
    return GalleryCase(
        case=first.case,
        truth=", ".join(first.truth),
        said={arm: _answer(outcome) for arm, outcome in said.items()},
        neighbours=_neighbours(found),
        image="" if found is None or images is None else thumbnail(found.sha256, images, _SIDE),
    )


def _answer(outcome: Outcome) -> str:
    if outcome.error is not None:
        return outcome.error.partition(":")[0]
    sure = "" if outcome.confidence is None else f" {outcome.confidence:.2f}"
    return f"{', '.join(outcome.labels) or outcome.text or '–'}{sure}"


def _neighbours(found: CaseEvidence | None) -> str:
    if found is None:
        return ""
    return _counted("+".join(case.labels) for case in found.evidence.similar_cases)


def _counted(labels: Iterable[str]) -> str:
    from collections import Counter

    return ", ".join(f"{label} × {count}" for label, count in Counter(labels).most_common())


def thumbnail(sha256: str, images: ImageStore, side: int) -> str:
    """Data address of a small image; empty where the store does not have it."""
    try:
        image = images.get(f"img-{sha256[:12]}").convert("RGB")
    except GscoError:
        return ""
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return data_address("jpeg", buffer.getvalue())


def data_address(kind: str, content: bytes) -> str:
    """Address of an image that stands in the page itself."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
