"""A case for taking away: its record as JSON, its report as a page and as a PDF."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...case import Diagnosis, SimilarCase
from ...errors import GscoError
from ...graphs.explanation.decision import is_negative
from ...graphs.explanation.titles import titles
from .html import page
from .pdf import pdf
from .pictures import NO_PICTURES, CasePictures, ReportImage, heat_layer, overlay, picture
from .sheet import Sheet
from .view import CaseView, view_of

if TYPE_CHECKING:
    from ...models.specialist.activation import Heat
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

    What is not available is left out of the report, never an error: the diagnosis stands without it.
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
    """The case's image, and where the specialist that is worth most looked for a finding."""
    try:
        image = gsco.images.get(diagnosis.case_id)
        yield picture(image, "The image")
        if (choice := heat_choice(gsco, diagnosis)) is not None:
            yield picture(overlay(image, heat_of(gsco, diagnosis, *choice)), looked_words(*choice))
    except GscoError:
        return


def case_pictures(gsco: GSCo, diagnosis: Diagnosis) -> CasePictures:
    """The same as two layers, for a page that can lay one over the other."""
    try:
        image = picture(gsco.images.get(diagnosis.case_id), "The image")
    except GscoError:
        return NO_PICTURES
    try:
        choice = heat_choice(gsco, diagnosis)
        return CasePictures(image, layer_of(gsco, diagnosis, *choice) if choice else None)
    except GscoError:
        return CasePictures(image)


def layer_of(gsco: GSCo, diagnosis: Diagnosis, specialist: str, label: str) -> ReportImage:
    """Where a specialist looked for a label, to lie over the image.

    Raises:
        GscoError: the image is gone, there is no such specialist or label, or no map can be made of it.
    """
    title = titles(diagnosis.evidence).get(specialist, specialist)
    layer = heat_layer(heat_of(gsco, diagnosis, specialist, label))
    return picture(layer, looked_words(title, label))


def heat_of(gsco: GSCo, diagnosis: Diagnosis, specialist: str, label: str) -> Heat:
    """Where a specialist looked for a label: 0 to 1, float32 (height, width) of the image.

    Raises:
        GscoError: the image is gone, there is no such specialist or label, or no map can be made of it.
    """
    from ...errors import SpecialistError
    from ...models.specialist.activation import activation_map

    members = gsco.panels[diagnosis.task].members if diagnosis.task in gsco.panels else {}
    if specialist not in members:
        raise SpecialistError(f"task {diagnosis.task} has no specialist {specialist!r}")
    return activation_map(members[specialist], gsco.images.get(diagnosis.case_id), label)


def looked_words(specialist: str, label: str) -> str:
    """What a picture of heat is called."""
    return f"Where {specialist} looked for {label}"


def heat_choice(gsco: GSCo, diagnosis: Diagnosis) -> tuple[str, str] | None:
    """The most reliable specialist that says what the diagnosis says, and the finding that it names.

    None where nobody says it, and where the diagnosis is that nothing was found: there is no place to show.
    """
    labels = finding_labels(gsco, diagnosis, diagnosis.labels)
    said = frozenset(diagnosis.labels)
    agreeing = [one for one in diagnosis.evidence.opinions if frozenset(one.labels) == said]
    if not labels or not agreeing:
        return None
    return max(agreeing, key=lambda one: one.reliability or 0.0).specialist, labels[0]


def finding_labels(gsco: GSCo, diagnosis: Diagnosis, labels: Iterable[str]) -> list[str]:
    """Those of the labels that name a finding, which has a place in the image."""
    task = gsco.tasks.get(diagnosis.task) if diagnosis.task in gsco.tasks else None
    return [label for label in labels if not is_negative([label], task)]


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


MINI_NOTE = "The generalist is the small bundled one, a default to start with: read the evidence."
