"""The training loop: epochs, early stopping, and a checkpoint after each epoch."""

from __future__ import annotations

import copy
import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..._support.progress import Progress
from ...errors import SpecialistError
from .augmentation import augment, mix
from .calibration import sigmoid, softmax
from .card import Transform
from .checkpoint import Progressed, TrainingCheckpoint
from .device import choose_device, uses_bf16
from .freezing import freeze, set_training, update_average
from .metrics import score
from .network import classifier_of, normalise, place
from .pixels import ImageTensors
from .recipe import TrainingConfig
from .weighting import class_weights, positive_weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_DIVERGED = "the loss is not finite; lower learning_rate or set precision = 'fp32'"


@dataclass(frozen=True)
class Examples:
    """Images and their targets."""

    pixels: ImageTensors
    targets: npt.NDArray[np.float32]
    """(n, labels), one-hot, or multi-hot for multi-label tasks."""


class Fitting:
    """One training of one network.

    Every random number of an epoch derives from the seed and the epoch's number, so that a training
    that goes on from a checkpoint equals one that was never interrupted.

    Args:
        network: initialised; trained in place.
        config: the recipe.
        transform: of the inputs.
        train: what is learnt from.
        validation: what the best epoch is chosen by.
        multilabel: whether labels are independent of each other.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrainingConfig,
        transform: Transform,
        train: Examples,
        validation: Examples,
        *,
        multilabel: bool,
    ) -> None:
        import torch

        self.config, self.transform, self.multilabel = config, transform, multilabel
        self.train, self.validation = train, validation
        self.device = choose_device(config.device)
        self.network = place(network, self.device)
        self.autocast = uses_bf16(config.precision, self.device, network)
        freeze(self.network, config.trainable)
        self.optimiser = torch.optim.AdamW(
            self._parameter_groups(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.average = copy.deepcopy(self.network).eval() if config.ema else None
        self.weights = self._loss_weights()
        self.state = Progressed()

    def _loss_weights(self) -> Tensor:
        import torch

        targets, rule = self.train.targets, self.config.class_weighting
        counts = targets.sum(0)
        weights = (
            positive_weights(counts, len(targets), rule) if self.multilabel else class_weights(counts, rule)
        )
        return torch.tensor(weights, dtype=torch.float32, device=self.device)

    @property
    def kept(self) -> nn.Module:
        """The network whose weights count: the moving average where there is one."""
        return self.network if self.average is None else self.average

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch; a short last batch is left out, its statistics being poor."""
        return max(1, len(self.train.pixels) // self.config.batch_size)

    def run(self, path: Path, fingerprint: str, *, quiet: bool = False) -> Progressed:
        """Train to the end, from the checkpoint if there is one, and leave the best weights in the network.

        Args:
            path: of the checkpoint.
            fingerprint: of the training.
            quiet: show no progress.

        Raises:
            SpecialistError: the loss is not finite, or the checkpoint belongs to another training.
        """
        checkpoint = TrainingCheckpoint(path, fingerprint, self.network, self.optimiser, self.average)
        self.state = checkpoint.restore()
        with Progress(self.config.name, self.config.epochs * self.steps_per_epoch, quiet=quiet) as progress:
            progress.advance(self.state.epoch * self.steps_per_epoch)
            while not self._finished():
                numbers = self._epoch(progress)
                checkpoint.save(self.state)
                progress.line(describe_epoch(self.config, self.state, numbers))
        self.network.load_state_dict(self.state.best_state)
        return self.state

    def _finished(self) -> bool:
        stale = self.state.epoch - self.state.best_epoch
        return self.state.epoch >= self.config.epochs or stale >= self.config.patience

    def _epoch(self, progress: Progress) -> dict[str, float]:
        import torch

        epoch = self.state.epoch
        seed = int(np.random.SeedSequence([self.config.seed & 0xFFFFFFFF, epoch]).generate_state(1)[0])
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed + 1)
        order = torch.randperm(len(self.train.pixels), generator=generator).numpy()
        size = self.config.batch_size if len(order) >= self.config.batch_size else len(order)
        set_training(self.network)
        total = 0.0
        for step in range(self.steps_per_epoch):
            indices = order[step * size : (step + 1) * size]
            loss = self._step(indices, epoch * self.steps_per_epoch + step, generator)
            if not math.isfinite(loss):
                raise SpecialistError(_DIVERGED)
            total += loss
            progress.advance(note=f"epoch {epoch + 1} loss {loss:.3f}")
        numbers = {"loss": total / self.steps_per_epoch, **self._validate()}
        self._note(numbers)
        return numbers

    def _step(self, indices: npt.NDArray[np.integer], step: int, generator: torch.Generator) -> float:
        import torch

        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * group["factor"] * self._rate(step)
        batch = augment(self.train.pixels.batch(indices).to(self.device), self.config.amount, generator)
        targets = torch.from_numpy(self.train.targets[indices]).to(self.device)
        if self.config.mixup:
            batch, targets = mix(batch, targets, self.config.mixup, generator)
        with self._precision():
            logits = self.network(normalise(batch, self.transform))
        loss = self._loss(logits.float(), targets, self.config.label_smoothing)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        if self.average is not None:
            update_average(self.average, self.network, min(self.config.ema, (1 + step) / (10 + step)))
        return float(loss.detach())

    def _loss(self, logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

        if self.multilabel:
            smoothed = targets * (1 - smoothing) + smoothing / 2
            return binary_cross_entropy_with_logits(logits, smoothed, pos_weight=self.weights)
        return cross_entropy(logits, targets, weight=self.weights, label_smoothing=smoothing)

    def _rate(self, step: int) -> float:
        """Share of the learning rate at a step: linear warm-up, then a cosine to zero."""
        total = self.config.epochs * self.steps_per_epoch
        warm = min(int(self.config.warmup_epochs * self.steps_per_epoch), total - 1)
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))

    def _validate(self) -> dict[str, float]:
        import torch

        logits = self.logits(self.validation.pixels)
        targets = self.validation.targets
        loss = self._loss(
            torch.from_numpy(logits).to(self.device), torch.from_numpy(targets).to(self.device), 0.0
        )
        if self.multilabel:
            probabilities = sigmoid(logits)
            scores = score(targets.astype(int), (probabilities >= 0.5).astype(int), probabilities)
        else:
            probabilities = softmax(logits)
            scores = score(targets.argmax(1), probabilities.argmax(1), probabilities)
        return {"val_loss": float(loss), **{f"val_{name}": value for name, value in scores.items()}}

    def logits(self, pixels: ImageTensors) -> npt.NDArray[np.float32]:
        """Return the kept network's logits (n, labels) in evaluation mode."""
        import torch

        network = self.kept.eval()
        rows = []
        with torch.inference_mode(), self._precision():
            for start in range(0, len(pixels), self.config.batch_size):
                indices = np.arange(start, min(start + self.config.batch_size, len(pixels)))
                rows.append(
                    network(normalise(pixels.batch(indices).to(self.device), self.transform)).float().cpu()
                )
        return torch.cat(rows).numpy()

    @contextmanager
    def _precision(self) -> Generator[None]:
        import torch

        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            yield

    def _note(self, numbers: dict[str, float]) -> None:
        if not math.isfinite(numbers["val_loss"]):
            raise SpecialistError(_DIVERGED)
        state = self.state
        state.epoch += 1
        state.history.append(numbers)
        # Equal balanced accuracies are common on small splits: the loss decides between them.
        value = -numbers["val_loss"]
        if self.config.criterion == "balanced_accuracy":
            value = numbers["val_balanced_accuracy"] - 1e-6 * min(numbers["val_loss"], 1e3)
        if value > state.best_score:
            state.best_score, state.best_epoch = value, state.epoch
            state.best_state = {
                name: tensor.detach().cpu().clone() for name, tensor in self.kept.state_dict().items()
            }

    def _parameter_groups(self) -> list[dict[str, object]]:
        prefix, _ = classifier_of(self.network)
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                groups.setdefault((parameter.ndim > 1, name.startswith(f"{prefix}.")), []).append(parameter)
        return [
            {
                "params": parameters,
                "weight_decay": self.config.weight_decay if decays else 0.0,
                "factor": self.config.head_rate if is_head else 1.0,
            }
            for (decays, is_head), parameters in groups.items()
        ]


def describe_epoch(config: TrainingConfig, state: Progressed, numbers: dict[str, float]) -> str:
    """One line about an epoch."""
    best = "  best so far" if state.best_epoch == state.epoch else ""
    return (
        f"{config.task}/{config.name} epoch {state.epoch}/{config.epochs}: loss {numbers['loss']:.4f}, "
        f"val loss {numbers['val_loss']:.4f}, val balanced accuracy {numbers['val_balanced_accuracy']:.4f}, "
        f"val AUROC {numbers['val_auroc']:.4f}{best}"
    )
