"""Checkpoints of the reference's specialists, named ``DATASET_SIZE_PROCEDURE_ARCH_sSEED_best.pth``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import SpecialistError
from .network import create_network
from .specialist import TimmSpecialist, transform_of

CANVAS = 224
"""Side of every network's input in the reference."""

_NAME = re.compile(
    r"(?P<dataset>.+?)_(?P<size>\d+)_(?P<procedure>[A-Za-z]+)_(?P<architecture>.+)_s(?P<seed>\d+)_best\.pth"
)


@dataclass(frozen=True)
class ReferenceName:
    """What the name of a reference checkpoint says."""

    dataset: str
    image_size: int
    """Size of the data set's images; smaller ones than the canvas are padded to it."""
    procedure: str
    architecture: str
    seed: int


def parse_reference_name(name: str) -> ReferenceName:
    """Parse a checkpoint's file name.

    Raises:
        SpecialistError: it is not named in this way.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise SpecialistError(
            f"{name!r} is not named DATASET_SIZE_PROCEDURE_ARCH_sSEED_best.pth; "
            "rename it, or load it with Specialist.from_timm"
        )
    return ReferenceName(
        match["dataset"], int(match["size"]), match["procedure"], match["architecture"], int(match["seed"])
    )


def read_reference_checkpoint(
    path: Path, labels: Sequence[str], *, task: str | None = None, multilabel: bool = False
) -> TimmSpecialist:
    """Read a specialist that the reference's code trained.

    Args:
        path: the checkpoint; only tensors are read from it.
        labels: in the order of the data set's class indices.
        task: that it serves; None means the name of its data set.
        multilabel: sigmoid outputs.

    Raises:
        SpecialistError: the name cannot be parsed, timm lacks the architecture, the file holds more
            than tensors, or its tensors do not fit the architecture and the number of labels.
    """
    name = parse_reference_name(path.name)
    own = transform_of(create_network(name.architecture, len(labels)))
    transform = own.model_copy(update={"size": name.image_size, "canvas": CANVAS, "interpolation": "bicubic"})
    return TimmSpecialist.from_timm(
        name.architecture,
        labels,
        task=task or re.sub(r"[^a-z0-9_-]+", "-", name.dataset.lower()),
        name=f"{name.architecture}-s{name.seed}",
        checkpoint=path,
        transform=transform,
        multilabel=multilabel,
    )
