"""The specialists as something that is asked concurrently: batched, shared and remembered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .._support.batching import Batcher
from ..case import ImageRef, Missing, Opinion
from ..errors import GscoError, SpecialistError
from ..models.specialist.specialist import Floats, Forward, TimmSpecialist, decisions_of, normalised

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..images import ImageStore
    from ..models.specialist.activation import Heat
    from ..models.specialist.panel import Panel
    from .stores.protocol import Vectors

REMEMBERED = 2048
"""Embeddings of so many (network, image) pairs are kept."""
BATCH = 32
"""Images per pass of a network."""
PIXELS = 2**25
"""Pixels of the images that wait, decoded, for one pass; a larger image waits alone."""


class Specialists:
    """Asks the specialists of all panels; concurrent questions to one network become one batch.

    An image passes a network once, however many ask for an opinion or an embedding, and whichever
    specialists share the network (``TimmSpecialist.trunk_key``). All calls must come from one event loop.

    Args:
        panels: by task name. They may be loaded at the first access.
        images: where the pixels are.
        remembered: how many embeddings are kept.
    """

    def __init__(
        self, panels: Mapping[str, Panel], images: ImageStore, *, remembered: int = REMEMBERED
    ) -> None:
        self._panels = panels
        self._images = images
        self._remembered = remembered
        self._trunks: dict[str, Batcher[ImageRef, Floats]] = {}
        self._features: OrderedDict[tuple[str, str], asyncio.Future[Floats]] = OrderedDict()
        self._loaded: set[str] = set()
        self._encoders: dict[str, TimmSpecialist] = {}

    async def load(self, task: str | None = None) -> None:
        """Load what a task needs, in a thread, so that the event loop does not wait for it later.

        Args:
            task: None, or one without a panel, loads everything: any panel may have the shared encoder.
        """
        wanted = {task} if task is not None and task in self._panels else set(self._panels)
        if not wanted <= self._loaded:
            await asyncio.to_thread(self._load, wanted)

    def close(self) -> None:
        """Let running passes end; nothing may be asked any more."""
        for trunk in self._trunks.values():
            trunk.close()

    def members(self, task: str) -> tuple[str, ...]:
        """Names of the specialists of a task that can be asked; empty for a task without a panel."""
        return tuple(self._panels[task].members) if task in self._panels else ()

    def missing(self, task: str) -> tuple[Missing, ...]:
        """List the specialists of a task that could not be loaded, and why."""
        return self._panels[task].missing if task in self._panels else ()

    def retriever(self, task: str) -> str | None:
        """Name the encoder that a task's similar cases are searched with; None where no specialist embeds."""
        if task not in self._panels or not (name := self._panels[task].retriever):
            return None
        return self._panels[task].members[name].card.encoder

    def reliability(self, task: str, encoder: str) -> float | None:
        """Balanced accuracy on validation of the specialist with this encoder; None if there is none."""
        members = self._panels[task].members.values() if task in self._panels else ()
        return next((one.card.reliability for one in members if one.card.encoder == encoder), None)

    async def opinion(self, task: str, specialist: str, images: ImageRef | Sequence[ImageRef]) -> Opinion:
        """Ask one specialist.

        Of a case with several images the probabilities are averaged before it decides, and draft reports
        are joined.

        Raises:
            SpecialistError: there is no such specialist, or it failed on this image.
            ImageError: the image is gone.
        """
        member = self._member(task, specialist)
        refs = [images] if isinstance(images, ImageRef) else images
        features = np.stack(await asyncio.gather(*(self._seen(member, ref) for ref in refs)))
        try:
            return member.opinion(_pooled(member, member.head(features)), 0)
        except Exception as error:  # the same boundary as in _features
            raise _failure(member, error) from error

    async def embedding(self, encoder: str, image: ImageRef) -> Vectors:
        """Embed an image: float32 (d,), L2-normalised.

        Raises:
            SpecialistError: no specialist has this encoder, or it failed on this image.
            ImageError: the image is gone.
        """
        member = self._embedder(encoder)
        embedding = member.embeddings_of(await self._seen(member, image))
        return normalised(embedding[None])[0]

    async def attention(self, task: str, specialist: str, image: ImageRef, label: str) -> Heat:
        """Map where a specialist found what speaks for a label; see ``models.specialist.activation``.

        Raises:
            SpecialistError: there is no such specialist or label, or its network has no map.
            ConfigurationError: the library for that is not installed.
            ImageError: the image is gone.
        """
        from ..models.specialist.activation import activation_map

        member = self._member(task, specialist)
        return await asyncio.to_thread(lambda: activation_map(member, self._images.get(image), label))

    def _load(self, tasks: set[str]) -> None:
        for task in sorted(tasks):
            for member in self._panels[task].members.values():
                _ = member.trunk_key  # hashes the weights, once
            self._loaded.add(task)

    def _member(self, task: str, name: str) -> TimmSpecialist:
        if task not in self._panels:
            raise SpecialistError(f"task {task} has no specialists")
        members = self._panels[task].members
        if not members:
            raise SpecialistError(f"no specialist of task {task} could be loaded")
        if name not in members:
            raise SpecialistError(
                f"task {task} has no specialist {name!r}; available: {', '.join(members) or 'none'}"
            )
        return members[name]

    def _embedder(self, encoder: str) -> TimmSpecialist:
        if encoder not in self._encoders:
            for task in self._panels:
                for member in self._panels[task].members.values():
                    self._encoders.setdefault(member.card.encoder, member)
                if encoder in self._encoders:
                    break
            else:
                known = ", ".join(sorted(self._encoders)) or "none"
                raise SpecialistError(f"no specialist embeds with encoder {encoder!r}; encoders: {known}")
        return self._encoders[encoder]

    async def _seen(self, member: TimmSpecialist, image: ImageRef) -> Floats:
        """What the network makes of an image, float32 (d,); computed once, whoever asks."""
        key = (member.trunk_key, image.sha256)
        future = self._features.get(key)
        if future is None:
            future = self._features[key] = asyncio.ensure_future(self._trunk(member)(image))
            future.add_done_callback(lambda done: self._forget_failed(key, done))
            if len(self._features) > self._remembered:
                self._features.popitem(last=False)
        else:
            self._features.move_to_end(key)
        # One asker that gives up must not take the pass away from the others.
        return await asyncio.shield(future)

    def _forget_failed(self, key: tuple[str, str], done: asyncio.Future[Floats]) -> None:
        # Asking for the exception marks it as seen: the askers may all have given up.
        if (done.cancelled() or done.exception() is not None) and self._features.get(key) is done:
            del self._features[key]

    def _trunk(self, member: TimmSpecialist) -> Batcher[ImageRef, Floats]:
        key = member.trunk_key
        if key not in self._trunks:
            self._trunks[key] = Batcher(lambda refs: self._pass(member, refs), max_batch=BATCH)
        return self._trunks[key]

    def _pass(self, member: TimmSpecialist, refs: Sequence[ImageRef]) -> Sequence[Floats | Exception]:
        """Run a network over images; one that is gone fails alone, large ones go in smaller batches."""
        return [outcome for part in _parts(refs) for outcome in self._part(member, part)]

    def _part(self, member: TimmSpecialist, refs: Sequence[ImageRef]) -> Sequence[Floats | Exception]:
        outcomes: list[Floats | Exception] = []
        pixels = []
        for ref in refs:
            try:
                pixels.append(self._images.get(ref))
                outcomes.append(np.empty(0, np.float32))
            except GscoError as error:
                outcomes.append(error)
        rows = iter(_features(member, pixels))
        return [outcome if isinstance(outcome, Exception) else next(rows) for outcome in outcomes]


def _parts(refs: Sequence[ImageRef]) -> Iterator[list[ImageRef]]:
    """Split a batch where its images have more than ``PIXELS`` together."""
    part: list[ImageRef] = []
    pixels = 0
    for ref in refs:
        size = ref.width * ref.height
        if part and pixels + size > PIXELS:
            yield part
            part, pixels = [], 0
        part.append(ref)
        pixels += size
    if part:
        yield part


def _features(member: TimmSpecialist, pixels: list[Image]) -> Sequence[Floats | Exception]:
    """Run the network; where a batch fails, each image again alone, so that only the culprit fails."""
    if not pixels:
        return []
    try:
        rows = member.features(pixels, batch_size=len(pixels))
        return [
            row if np.isfinite(row).all() else _failure(member, ValueError("its output is not finite"))
            for row in rows
        ]
    except Exception as error:  # torch and timm raise anything; the caller gets one type
        if len(pixels) > 1:
            return [row for image in pixels for row in _features(member, [image])]
        return [_failure(member, error)]


def _failure(member: TimmSpecialist, error: Exception) -> SpecialistError:
    failure = SpecialistError(
        f"specialist {member.name!r} failed on an image: {type(error).__name__}: {error}"
    )
    failure.__cause__ = error
    return failure


def _pooled(member: TimmSpecialist, forward: Forward) -> Forward:
    """Make one result out of those of a case's images."""
    if len(forward.probabilities) == 1:
        return forward
    if not member.card.labels:
        return replace(forward, texts=("\n".join(forward.texts),))
    mean = forward.probabilities.mean(axis=0, keepdims=True)
    return replace(forward, probabilities=mean, decisions=decisions_of(mean, member.card))
