"""Which weights learn, and which are averaged."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from ...errors import SpecialistError
from .network import classifier_of

if TYPE_CHECKING:
    from torch import nn


def freeze(network: nn.Module, trainable: str | tuple[str, ...]) -> None:
    """Let only the named parameters and the classifier learn.

    Raises:
        SpecialistError: a pattern matches no parameter.
    """
    if trainable == "all":
        return
    prefix, _ = classifier_of(network)
    patterns = () if trainable == "head" else tuple(trainable)
    names = [name for name, _ in network.named_parameters()]
    if idle := [pattern for pattern in patterns if not fnmatch.filter(names, pattern)]:
        raise SpecialistError(
            f"the patterns {idle} match no parameter; parameters are named like {names[:3]}"
        )
    for name, parameter in network.named_parameters():
        matched = any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        parameter.requires_grad_(matched or name.startswith(f"{prefix}."))


def set_training(network: nn.Module) -> None:
    """Switch to training mode, except frozen normalisation layers: their statistics stay too."""
    network.train()
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        if hasattr(module, "running_mean") and own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the network's."""
    import torch

    with torch.no_grad():
        for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)
