"""Lets a specialist of the user's own take the place of a bundled one in a panel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from ...case import Missing, TaskKind
from ...errors import ConfigurationError, SpecialistError
from .card import SpecialistCard, Weights
from .panel import Panel
from .protocol import EmbeddingSpecialist, Specialist
from .specialist import Floats, Forward, TimmSpecialist, decisions_of, normalised

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...tasks import TaskBook

TOLERANCE = 1e-3
"""How far a row of probabilities may be from the sum of one."""


class SpecialistAdapter(TimmSpecialist):
    """A specialist of the user's own as a member of a panel.

    Its ``features`` are the columns of ``predict``, followed by those of ``embed`` where it embeds.

    Args:
        own: the user's specialist.

    Raises:
        ConfigurationError: it does not fit the protocol.
    """

    def __init__(self, own: Specialist) -> None:
        if not isinstance(own, Specialist):
            wanted = [name for name in ("name", "task", "labels", "predict") if not hasattr(own, name)]
            raise ConfigurationError(
                f"{type(own).__name__} is not a specialist: it lacks {', '.join(wanted)}; see gsco.Specialist"
            )
        self.own = own
        self._embeds = isinstance(own, EmbeddingSpecialist)
        try:
            self.card = _card(own, self._embeds)
        except ValidationError as error:
            wrong = "; ".join(f"{entry['loc'][0]}: {entry['msg']}" for entry in error.errors())
            raise ConfigurationError(f"specialist {own.name!r}: {wrong}") from error
        if len(set(self.card.labels)) != len(self.card.labels) or not self.card.labels:
            raise ConfigurationError(f"specialist {own.name!r}: labels must be given, each once")

    @cached_property
    def trunk_key(self) -> str:
        """Hash of task, name and version: it shares its pass with no other specialist."""
        return f"own {self.card.task} {self.card.name} {self.card.weights.sha256}"

    def features(self, images: Sequence[Image], batch_size: int = 64) -> Floats:
        """Ask the user's specialist: probabilities, then its embeddings, float32 (n, labels + d).

        Raises:
            SpecialistError: what it returns has the wrong shape, or is no probability.
        """
        starts = range(0, len(images), batch_size)
        return np.concatenate([self._rows(images[start : start + batch_size]) for start in starts])

    def head(self, features: Floats) -> Forward:
        """Turn its columns into results."""
        probabilities = features[:, : len(self.card.labels)]
        return Forward(
            probabilities=probabilities,
            embeddings=normalised(self.embeddings_of(features)),
            decisions=decisions_of(probabilities, self.card),
        )

    def embeddings_of(self, features: Floats) -> Floats:
        """Return the columns of ``embed``."""
        return features[..., len(self.card.labels) :]

    def _rows(self, images: Sequence[Image]) -> Floats:
        probabilities = self._probabilities(images)
        if not isinstance(self.own, EmbeddingSpecialist):
            return probabilities
        embeddings = np.asarray(self.own.embed(images), np.float32)
        if embeddings.ndim != 2 or len(embeddings) != len(images):
            raise SpecialistError(
                f"embed must return one row for each of {len(images)} images, not {embeddings.shape}"
            )
        return np.concatenate([probabilities, embeddings], axis=1)

    def _probabilities(self, images: Sequence[Image]) -> Floats:
        found = np.asarray(self.own.predict(images), np.float32)
        shape = (len(images), len(self.card.labels))
        if found.shape != shape:
            raise SpecialistError(f"predict must return an array of shape {shape}, not {found.shape}")
        if not ((found >= -TOLERANCE) & (found <= 1 + TOLERANCE)).all():
            raise SpecialistError("predict must return probabilities between 0 and 1, not logits")
        found = np.clip(found, 0, 1)
        if self.card.multilabel:
            return found
        sums = found.sum(axis=1, keepdims=True)
        if np.abs(sums - 1).max() > TOLERANCE:
            raise SpecialistError("each row of predict must sum to 1; set multilabel for independent labels")
        return found / sums


class ExtendedPanels(Mapping[str, Panel]):
    """Panels by task name, with specialists of the user's own added; one that does not fit is missing.

    Args:
        panels: to which they are added; they may be loaded at the first access.
        own: the user's specialists; of two with one name the later counts.
        tasks: among whose options the labels must be.

    Raises:
        ConfigurationError: one does not fit the protocol.
        TaskUnknown: one serves a task that is not known.
    """

    def __init__(self, panels: Mapping[str, Panel], own: Sequence[Specialist], tasks: TaskBook) -> None:
        self._panels = panels
        self._tasks = tasks
        self._own: dict[str, dict[str, SpecialistAdapter]] = {}
        for member in map(SpecialistAdapter, own):
            self._own.setdefault(tasks.get(member.card.task).name, {})[member.name] = member
        self._made: dict[str, Panel] = {}

    def __getitem__(self, task: str) -> Panel:
        if task not in self._own:
            return self._panels[task]
        if task not in self._made:
            self._made[task] = self._extended(task)
        return self._made[task]

    def __contains__(self, task: object) -> bool:
        return task in self._own or task in self._panels

    def __iter__(self) -> Iterator[str]:
        yield from self._panels
        yield from (task for task in self._own if task not in self._panels)

    def __len__(self) -> int:
        return len(set(self._panels) | set(self._own))

    def _extended(self, task: str) -> Panel:
        panel = self._panels[task] if task in self._panels else Panel(task, {})
        options = set(self._tasks.get(task).options)
        members: dict[str, TimmSpecialist] = dict(panel.members)
        missing = [one for one in panel.missing if one.source.partition(":")[2] not in self._own[task]]
        for name, member in self._own[task].items():
            if set(member.card.labels) == options:
                members[name] = member
                continue
            members.pop(name, None)
            reason = f"its labels {sorted(member.card.labels)} are not the task's options, {sorted(options)}"
            missing.append(Missing(source=f"specialist:{name}", reason=reason))
        return Panel(task, members, missing=missing, retriever=panel.retriever)


def _card(own: Specialist, embeds: bool) -> SpecialistCard:
    kind, version = type(own), str(getattr(own, "version", ""))
    identity = f"{kind.__module__}.{kind.__qualname__} {own.task}/{own.name} {version}"
    return SpecialistCard(
        name=own.name,
        task=own.task,
        kind=TaskKind.MULTILABEL if getattr(own, "multilabel", False) else TaskKind.DIAGNOSIS,
        architecture=kind.__name__,
        labels=tuple(own.labels),
        encoder=getattr(own, "encoder", "") if embeds else "",
        reliability=getattr(own, "reliability", None),
        weights=Weights(sha256=hashlib.sha256(identity.encode()).hexdigest()),
    )
