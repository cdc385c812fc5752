"""What training prompts are made of: a task's images and evidence, a scene, and the prompt itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ....case import Opinion, SimilarCase, Task
from .config import Family
from .real_evidence import RealEvidence

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageView:
    """What a prompt shows: one image, or something between two of the same source."""

    source: int
    image: int
    """Index in its source."""
    other: int = 0
    share: float = 1.0
    """Of the first image; the rest is the other's."""


@dataclass(frozen=True)
class PromptTurn:
    """A later turn of a conversation."""

    role: Literal["user", "assistant", "tool"]
    text: str


@dataclass(frozen=True)
class TrainingPrompt:
    """A conversation with its last answer. Whatever the assistant says in it is learnt."""

    text: str
    """The user's first text, behind the image."""
    answer: str
    options: tuple[str, ...]
    """The answers that are allowed; empty where functions are called."""
    view: ImageView
    family: Family
    opinions: tuple[Opinion, ...] = ()
    similar: tuple[SimilarCase, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    """Specifications of the functions that may be called."""
    turns: tuple[PromptTurn, ...] = ()
    """Between the first text and the last answer."""


@dataclass(frozen=True)
class Material:
    """What prompts about one source are made from.

    Attributes:
        task: its card.
        labels: the data set's labels, sorted.
        targets: label index of each image.
        views: how often an image of each label looks like each label to the tower, (labels, labels).
        real: real evidence, if there is any.
    """

    task: Task
    labels: tuple[str, ...]
    targets: Ints
    views: npt.NDArray[np.float64]
    real: RealEvidence | None = None


@dataclass(frozen=True)
class Scene:
    """What prompts about one image have in common.

    Attributes:
        task: options in the order of the prompts.
        names: what each label is called here.
        truth: index into ``names``.
        image: that the evidence is about.
        view: that is shown.
        own: whether the labels have their own names, so that the image can tell them.
    """

    task: Task
    names: tuple[str, ...]
    truth: int
    image: int
    view: ImageView
    own: bool = True

    @property
    def source(self) -> int:
        """Of the image."""
        return self.view.source

    @property
    def answer(self) -> str:
        """The right label."""
        return self.names[self.truth]
