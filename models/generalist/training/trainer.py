"""One stage of training: steps that go on after an interruption as if there had been none."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...._support.progress import Progress
from ....disk import replacing
from ....errors import ConfigurationError
from .config import Precision, Stage, Teacher, Vision

if TYPE_CHECKING:
    from torch import Tensor

CLIP = 1.0
FLOOR = 0.01
"""The learning rate ends at this share of its peak."""
NOTE_EVERY = 10
"""Steps between two looks at the loss: each makes a GPU finish what it was given."""


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """Choose the compute type; ``auto`` is bfloat16 on a GPU and on CPUs with matrix units.

    Other CPUs know bfloat16 too, but training in it is slower there (measured: 57 images/s, 85 in float32).
    """
    if precision == "auto":
        native = device.type == "cuda" or torch.cpu.get_capabilities().get("amx_bf16", False)
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


class Optimisation:
    """AdamW with warm-up and cosine decay, checkpointed.

    Below float32 the module computes in that type and float32 masters of its weights are stepped.
    A step's random numbers depend on the seed and the step's number only; so a run that was killed
    and goes on from its last checkpoint ends as one that was not.

    Args:
        module: what is trained, on the device that it is trained on; parameters that need no gradient stay
            as they are.
        settings: learning rate, decay, warm-up.
        total: number of steps.
        dtype: that the module computes in.
        checkpoint: file to go on from, where it exists.
        fingerprint: of all that determines the result.
        every: seconds between two checkpoints.
        seed: of the run.

    Raises:
        ConfigurationError: the checkpoint was made by another configuration.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: Vision | Teacher | Stage,
        total: int,
        *,
        dtype: torch.dtype,
        checkpoint: Path,
        fingerprint: str,
        every: float = 120.0,
        seed: int = 0,
    ) -> None:
        self.module, self.total, self.step = module, total, 0
        self._settings, self._path, self._fingerprint = settings, checkpoint, fingerprint
        self._every, self._seed = every, seed
        names = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]
        self._names = [name for name, _ in names]
        self._masters = [weight.detach().clone().float() for _, weight in names]
        cast(module, dtype)
        self._weights = [weight for _, weight in names]
        decayed = [master for master in self._masters if master.ndim >= 2]
        plain = [master for master in self._masters if master.ndim < 2]
        groups = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self._optimiser = torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98), fused=True)
        self._resume()

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.total

    def run(
        self,
        losses_of: Callable[[int], Iterable[Tensor]],
        title: str,
        *,
        evaluate: Callable[[], str] | None = None,
        evaluate_every: int = 0,
    ) -> None:
        """Do the steps that are left.

        Args:
            losses_of: the loss of the step of that number, in parts that add up. The gradient of each is
                taken before the next one is asked for, so that only one part is in memory.
            title: of the progress bar.
            evaluate: returns a line to print.
            evaluate_every: steps between two evaluations; 0 never.
        """
        saved, loss = time.monotonic(), float("nan")
        with Progress(title, self.total) as progress:
            progress.advance(self.step)
            while not self.finished:
                found = self._one(losses_of)
                if self.finished or self.step % NOTE_EVERY == 1:
                    loss = float(found)
                progress.advance(note=f"loss {loss:.3f}")
                due = time.monotonic() - saved > self._every
                if self.finished or due:
                    self.save()
                    saved = time.monotonic()
                if evaluate and evaluate_every and (self.finished or self.step % evaluate_every == 0):
                    progress.line(
                        f"{title} {self.step}/{self.total} loss {loss:.3f} {self._evaluated(evaluate)}"
                    )

    def save(self) -> None:
        """Write the checkpoint, all of it or nothing."""
        state = {
            "fingerprint": self._fingerprint,
            "step": self.step,
            "total": self.total,
            "weights": dict(zip(self._names, self._masters, strict=True)),
            "buffers": self._buffers(),
            "optimiser": self._optimiser.state_dict(),
        }
        write_checkpoint(state, self._path)

    def _one(self, losses_of: Callable[[int], Iterable[Tensor]]) -> Tensor:
        self.module.train()
        torch.manual_seed(self._seed * 1_000_003 + self.step)
        for master in self._masters:
            master.grad = None
        found: list[Tensor] = []
        for loss in losses_of(self.step):
            loss.backward()
            self._collect()
            found.append(loss.detach())
        self._apply()
        self.step += 1
        return torch.stack(found).sum()

    def _collect(self) -> None:
        """Add the gradients to those of the masters: below float32 a sum of many parts would be coarse."""
        for master, weight in zip(self._masters, self._weights, strict=True):
            if weight.grad is not None:
                fresh = weight.grad.float()
                master.grad = fresh if master.grad is None else master.grad.add_(fresh)
            weight.grad = None

    def _apply(self) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self._settings.lr * schedule(self.step, self.total, self._settings.warmup)
        torch.nn.utils.clip_grad_norm_(self._masters, CLIP, foreach=True)
        self._optimiser.step()
        self._publish()

    @torch.no_grad()
    def _publish(self) -> None:
        for weight, master in zip(self._weights, self._masters, strict=True):
            weight.copy_(master)

    def _buffers(self) -> dict[str, Tensor]:
        """What a module keeps beside its weights: batch normalisation's running statistics."""
        weights = {name for name, _ in self.module.named_parameters()}
        return {name: kept for name, kept in self.module.state_dict().items() if name not in weights}

    def _evaluated(self, evaluate: Callable[[], str]) -> str:
        self.module.eval()
        with torch.inference_mode():
            return evaluate()

    def _resume(self) -> None:
        if not self._path.is_file():
            return
        state = read_checkpoint(self._path)
        if state["fingerprint"] != self._fingerprint or list(state["weights"]) != self._names:
            raise ConfigurationError(
                f"{self._path} was made by another configuration; name another work folder, or remove it"
            )
        with torch.no_grad():
            for master, kept in zip(self._masters, state["weights"].values(), strict=True):
                master.copy_(kept)
        for name, buffer in self._buffers().items():
            buffer.copy_(state["buffers"][name])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])
        self._publish()


def write_checkpoint(state: Mapping[str, object], path: Path) -> None:
    """Write a checkpoint, all of it or nothing."""
    with replacing(path) as fresh:
        torch.save(state, fresh)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint as tensors and plain values only.

    Raises:
        ConfigurationError: it is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what its zip and unpickler raise
        raise ConfigurationError(
            f"{path} is not a checkpoint ({error}); remove it to start that stage again"
        ) from error


def cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Change the type of the parameters only: rotary frequencies are buffers, and stay exact."""
    for weight in module.parameters():
        weight.data = weight.data.to(dtype)


def schedule(step: int, total: int, warmup: float) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine down to ``FLOOR``."""
    start = max(1, round(warmup * total))
    if step < start:
        return (step + 1) / start
    done = (step - start) / max(1, total - start)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done))


def freeze(modules: Iterable[nn.Module], frozen: bool = True) -> None:
    """Exclude modules from training, or include them again."""
    for module in modules:
        module.requires_grad_(not frozen)
