"""What becomes of a data set's images: entries of a case store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..case import Task
from ..errors import StoreError
from .pictures import DecodedImage, relative_name, thumbnail_of
from .stores.protocol import Entry, KnownCase, Vectors

if TYPE_CHECKING:
    from ..models.specialist.specialist import TimmSpecialist

SAME_VECTOR = 0.999
"""Cosine similarity that an image's vector must have with the stored one of the same encoder; other
batch sizes, threads and half precision leave it above 0.9999."""

Held = Callable[[Sequence[str]], Mapping[str, Entry]]
"""Case ids to the entries that the store has of them: ``CaseStore.get``, or a way to it."""


@dataclass(frozen=True)
class CaseOrigin:
    """Where the cases come from and what they are called."""

    dataset: str
    folder: Path
    task: Task
    thumbnail: int = 64
    """Longest side of the small JPEG that is kept, in pixels; 0 keeps none."""

    def case(self, picture: DecodedImage) -> KnownCase:
        """The known case of an image."""
        return KnownCase(
            sha256=picture.sha256,
            task=self.task.name,
            labels=picture.item.labels,
            modality=self.task.modality,
            group=picture.item.group,
            source=f"{self.dataset}/{relative_name(picture.item.path, self.folder)}",
            licence=self.task.licence,
            report=picture.item.report,
        )


@dataclass(frozen=True)
class Made:
    """What was made of one image."""

    case: KnownCase
    known_as: tuple[str, ...] | None
    """The labels that the store has of it; None where it is new."""
    entry: Entry | None
    """What the store lacks of it; None where it lacks nothing."""


class Maker:
    """Turns images into entries; the store's entries say what need not be made again.

    Args:
        origin: of the images.
        encoders: encoder name to the specialist whose network it is.
    """

    def __init__(self, origin: CaseOrigin, encoders: Mapping[str, TimmSpecialist]) -> None:
        self._origin, self._encoders = origin, encoders
        self._unproven = set(encoders)

    def make(self, pictures: Iterable[DecodedImage], held: Held) -> list[Made]:
        """Embed what the store lacks of these images; one result each, in their order.

        Raises:
            StoreError: the store cannot be read, or its vectors were made by other weights.
        """
        cases = [(self._origin.case(picture), picture) for picture in pictures]
        # The same pixels twice are embedded once, as the first of them.
        first = dict(reversed([(case.id, (case, picture)) for case, picture in cases]))
        there = held(list(first))
        vectors: dict[str, dict[str, Vectors]] = {id: {} for id in first}
        for name in self._encoders:
            for id, vector in self._embedded(name, {id: p for id, (_, p) in first.items()}, there):
                vectors[id][name] = vector
        return [self._made(case, picture, there.get(case.id), vectors[case.id]) for case, picture in cases]

    def _made(
        self, case: KnownCase, picture: DecodedImage, known: Entry | None, lacking: Mapping[str, Vectors]
    ) -> Made:
        labels = known.case.labels if known else None
        if known is not None and not lacking:
            return Made(case, labels, None)
        return Made(case, labels, Entry(case, lacking, thumbnail_of(picture.image, self._origin.thumbnail)))

    def _embedded(
        self, name: str, pictures: Mapping[str, DecodedImage], held: Mapping[str, Entry]
    ) -> list[tuple[str, Vectors]]:
        """Vectors of the cases that lack one; one of the others is embedded again to be compared."""
        there = [id for id in pictures if id in held and name in held[id].vectors]
        lacking = [id for id in pictures if id not in there]
        proof = there[:1] if name in self._unproven else []
        if not lacking and not proof:
            return []
        embedded = self._encoders[name].embed([pictures[id].image for id in (*proof, *lacking)])
        if proof:
            _check_same(name, embedded[0], held[proof[0]].vectors[name])
            self._unproven.discard(name)
        return list(zip(lacking, embedded[len(proof) :], strict=True))


def _check_same(encoder: str, vector: Vectors, stored: Vectors) -> None:
    if len(vector) == len(stored) and float(vector @ stored) < SAME_VECTOR:
        raise StoreError(
            f"the store's vectors of encoder {encoder!r} were made by other weights than this specialist's; "
            "index into a new store, or delete the old cases first"
        )
