"""Where a network runs, and how precisely."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn


def choose_device(name: str) -> torch.device:
    """Return the device of that name; ``auto`` is the first GPU, else the CPU."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def uses_bf16(precision: str, device: torch.device, network: nn.Module) -> bool:
    """Whether to compute in bfloat16: asked for, or ``auto`` where that is native and faster.

    On CPUs with matrix units dense networks gain a factor of two; depthwise convolutions and very
    small networks lose (measured: ResNet-10 30 → 64 images/s, EfficientNet-Lite0 21 → 16).
    """
    import torch

    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    able = torch.cpu.get_capabilities()
    dense = not any(1 < getattr(module, "groups", 1) == module.in_channels for module in network.modules())
    large = sum(parameter.numel() for parameter in network.parameters()) > 1_000_000
    return bool(able.get("amx_bf16") or able.get("avx512_bf16")) and dense and large
