"""What is on record about the images of a conversation: the decisions, and why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...case import Diagnosis, ImageRef, Task
from ..events import Finding, Likeness
from .question import UserQuestion


@dataclass(frozen=True)
class ImageRecord:
    """One image of a conversation and what was found out about it."""

    place: int
    """From 1, in the order in which the images were first shown."""
    of: int
    """So many images the conversation has."""
    image: ImageRef
    diagnosis: Diagnosis | None = None
    """The latest, with a person's decision on it where there is one."""
    task: Task | None = None
    reasons: tuple[str, ...] = ()
    """Why there is no diagnosis."""
    likeness: Likeness | None = None
    """The kind of known image that it is nearest to, where it was refused."""

    @property
    def name(self) -> str:
        """What the image is called in a sentence, such as ``image 2 (breast ultrasound)``."""
        kind = self.task.modality if self.task else ""
        if self.of == 1:
            return f"this {kind} image" if kind else "this image"
        return f"image {self.place} ({kind})" if kind else f"image {self.place}"


def image_records(state: Mapping[str, Any], tasks: Mapping[str, Task]) -> tuple[ImageRecord, ...]:
    """Read what was found about each image of a conversation.

    Args:
        state: of the consultation graph.
        tasks: the cards, by name.
    """
    images: Sequence[ImageRef] = state.get("images") or ()
    findings = tuple((state.get("findings") or {}).values())
    return tuple(
        _record(place, len(images), image, [one for one in findings if _about(one, image)], tasks)
        for place, image in enumerate(images, start=1)
    )


def subject(
    question: UserQuestion, records: Sequence[ImageRecord], latest: Iterable[str]
) -> tuple[ImageRecord, ...]:
    """Choose the images that a question is about: those it names, else those that were shown last.

    Args:
        question: as it was understood.
        records: of the conversation.
        latest: ids of the images that came with the latest message that had any.
    """
    named = [one for one in records if one.image.id in question.images or _placed(one, question)]
    if named:
        return tuple(named)
    if question.everything:
        return tuple(records)
    shown = set(latest)
    return tuple(one for one in records if one.image.id in shown) or tuple(records[-1:])


def _placed(record: ImageRecord, question: UserQuestion) -> bool:
    last = "last" in question.places and record.place == record.of
    return record.place in question.places or last


def _about(finding: Finding, image: ImageRef) -> bool:
    return finding.image is not None and finding.image.sha256 == image.sha256


def _record(
    place: int, of: int, image: ImageRef, findings: Sequence[Finding], tasks: Mapping[str, Task]
) -> ImageRecord:
    diagnosis = next((one.diagnosis for one in reversed(findings) if one.diagnosis), None)
    if diagnosis is not None:
        return ImageRecord(place, of, image, diagnosis, tasks.get(diagnosis.task))
    last = next((one for one in reversed(findings) if one.missing), None)
    reasons = tuple(missing.reason for missing in last.missing) if last else ()
    return ImageRecord(place, of, image, reasons=reasons, likeness=last.likeness if last else None)
