"""A case for taking away: its record as JSON, its report as a page and as a PDF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...case import Diagnosis, SimilarCase
from ...errors import GscoError
from .html import page
from .pdf import pdf
from .pictures import ReportImage, overlay, picture
from .sheet import Sheet
from .view import CaseView, view_of

if TYPE_CHECKING:
    from ..api import GSCo


@dataclass(frozen=True)
class CaseReport:
    """A diagnosis with everything that a report shows of it."""

    diagnosis: Diagnosis
    sheet: Sheet

    def json(self) -> str:
        """The record: the diagnosis with all evidence, its provenance and the review."""
        return self.diagnosis.model_dump_json(indent=2)

    def html(self) -> str:
        """A page that stands alone."""
        return page(self.sheet)

    def pdf(self) -> bytes:
        """One page.

        Raises:
            ConfigurationError: the library is not installed.
        """
        return pdf(self.sheet)


def case_report(gsco: GSCo, diagnosis: Diagnosis) -> CaseReport:
    """Gather what a report shows: thumbnails, the image, and where a specialist looked.

    What cannot be had is left out of the report, never an error: the diagnosis stands without it.
    """
    pictures = tuple(pictures_of(gsco, diagnosis))
    sheet = Sheet(view(gsco, diagnosis), pictures, decision(diagnosis), note_on(gsco))
    return CaseReport(diagnosis, sheet)


def view(gsco: GSCo, diagnosis: Diagnosis) -> CaseView:
    """Lay a diagnosis out with the thumbnails of its similar cases."""
    thumbnails = thumbnails_of(gsco, diagnosis.evidence.similar_cases)
    return view_of(diagnosis, thumbnails, title=title_of(gsco, diagnosis.task))


def title_of(gsco: GSCo, task: str) -> str:
    """What readers call a task."""
    return gsco.tasks.get(task).title if task in gsco.tasks else task


def thumbnails_of(gsco: GSCo, cases: Sequence[SimilarCase]) -> dict[str, bytes]:
    """Small JPEGs of similar cases, by id; of those that the store has."""
    try:
        store = gsco.retrieval.store()
        found = ((case.id, store.thumbnail(case.id)) for case in cases)
        return {id: jpeg for id, jpeg in found if jpeg}
    except GscoError:
        return {}


def pictures_of(gsco: GSCo, diagnosis: Diagnosis) -> Iterator[ReportImage]:
    """The case's image, and where the specialist that is worth most looked for the diagnosis."""
    try:
        yield picture(gsco.images.get(diagnosis.case_id), "The image")
        if (name := first_choice(diagnosis)) is not None:
            yield looked(gsco, diagnosis, name, diagnosis.labels[0])
    except GscoError:
        return


def looked(gsco: GSCo, diagnosis: Diagnosis, specialist: str, label: str) -> ReportImage:
    """Draw where a specialist looked for a label.

    Raises:
        GscoError: the image is gone, there is no such specialist or label, or no map can be made of it.
    """
    from ...errors import SpecialistError
    from ...models.specialist.activation import activation_map

    members = gsco.panels[diagnosis.task].members if diagnosis.task in gsco.panels else {}
    if specialist not in members:
        raise SpecialistError(f"task {diagnosis.task} has no specialist {specialist!r}")
    image = gsco.images.get(diagnosis.case_id)
    heat = activation_map(members[specialist], image, label)
    return picture(overlay(image, heat), f"Where {specialist} looked for {label}")


def first_choice(diagnosis: Diagnosis) -> str | None:
    """The most reliable specialist that says what the diagnosis says; None where nobody does."""
    said = frozenset(diagnosis.labels)
    agreeing = [one for one in diagnosis.evidence.opinions if said and frozenset(one.labels) == said]
    return max(agreeing, key=lambda one: one.reliability or 0.0).specialist if agreeing else None


def decision(diagnosis: Diagnosis) -> tuple[str, ...]:
    """What a person decided, in lines; empty where nobody did."""
    if diagnosis.review is None:
        return ()
    review, made = diagnosis.review, diagnosis.review.decision
    words = {"approve": "approved", "edit": "changed", "reject": "rejected"}[made.action]
    lines = [f"{made.reviewer} {words} it on {review.at:%Y-%m-%d at %H:%M %Z}."]
    lines += (
        [f"Proposed: {', '.join(review.proposed)}. Decided: {', '.join(made.labels)}."] if made.labels else []
    )
    lines += [f"Reason: {made.reason}"] if made.reason else []
    lines += [f"Asked because: {' '.join(review.asked)}"] if review.asked else []
    return tuple(lines)


def note_on(gsco: GSCo) -> str:
    """What readers must know where the bundled generalist decided."""
    return MINI_NOTE if gsco.bundled else ""


MINI_NOTE = (
    "The generalist here is the small bundled one, a thousandth of a real one's size: a default to start "
    "with. Read the evidence, not its words."
)
