"""An unfinished training on disk, readable without unpickling code."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...disk import replacing
from ...errors import SpecialistError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass
class Progressed:
    """How far a training is; every field is plain."""

    epoch: int = 0
    """Epochs done."""
    best_epoch: int = 0
    best_score: float = -math.inf
    history: list[dict[str, float]] = field(default_factory=list)
    """Numbers of each epoch."""
    best_state: dict[str, Tensor] = field(default_factory=dict)
    """The weights of the best epoch."""


@dataclass
class TrainingCheckpoint:
    """Everything that a training needs to go on where it stopped.

    Random numbers are not in it: those of an epoch derive from the seed and the epoch's number.
    """

    path: Path
    fingerprint: str
    """Of the training; a checkpoint of another one is refused."""
    network: nn.Module
    optimiser: torch.optim.Optimizer
    average: nn.Module | None
    """The moving average of the weights, where there is one."""

    def save(self, progressed: Progressed) -> None:
        """Write it atomically."""
        import torch

        content = {
            "fingerprint": self.fingerprint,
            "progress": dict(vars(progressed)),
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }
        # By way of memory: on a full disk torch's own writer fails with an error that says nothing.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        with replacing(self.path) as fresh:
            fresh.write_bytes(buffer.getbuffer())

    def restore(self) -> Progressed:
        """Load network, optimiser and average, and return how far the training is; new if there is none.

        Raises:
            SpecialistError: it is damaged, or belongs to another training.
        """
        if not self.path.is_file():
            return Progressed()
        content = _read(self.path)
        if content["fingerprint"] != self.fingerprint:
            raise SpecialistError(
                f"{self.path.parent} holds an unfinished training with another configuration or other data; "
                "restore that configuration, or discard it with --restart"
            )
        self.network.load_state_dict(content["network"])
        self.optimiser.load_state_dict(content["optimiser"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        return Progressed(**content["progress"])


def _read(path: Path) -> dict[str, Any]:
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise SpecialistError(
            f"the checkpoint {path} cannot be read; discard it with --restart: {error}"
        ) from error
    if not isinstance(content, dict) or "fingerprint" not in content:
        raise SpecialistError(f"{path} is not a training checkpoint; discard it with --restart")
    return content
