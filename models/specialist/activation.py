"""Where a specialist looked: class-activation maps by Grad-CAM, through the library ``grad-cam``.

The map is taken between the trunk's last feature map and its head, which every timm classifier has, so no
layer has to be named per architecture. It shows what moved the logit of a label, at the feature map's
coarse grain (4 × 4 to 16 × 16); it is no segmentation and proves no cause.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from ...errors import ConfigurationError, SpecialistError
from .network import normalise

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from .specialist import TimmSpecialist

Heat = npt.NDArray[np.float32]

_backward = threading.Lock()
"""One backward pass at a time: the library leaves gradients and flags on the shared network."""


def activation_map(specialist: TimmSpecialist, image: Image, label: str) -> Heat:
    """Map where a specialist found what speaks for a label.

    Args:
        specialist: a classifier.
        image: any size, mode L or RGB.
        label: one of its labels.

    Returns:
        Heat from 0 to 1, float32 (height, width) of the image. All zero where nothing spoke for the label.

    Raises:
        ConfigurationError: the library is not installed.
        SpecialistError: it has no such label, or the architecture has no feature map.
    """
    if label not in specialist.card.labels:
        known = ", ".join(specialist.card.labels) or "none: it drafts reports"
        raise SpecialistError(f"specialist {specialist.name!r} has no label {label!r}; its labels: {known}")
    try:
        heat = _grad_cam(specialist, image, specialist.card.labels.index(label))
    except ImportError as error:
        raise ConfigurationError("activation maps need more packages: pip install 'gsco[ui]'") from error
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise SpecialistError(
            f"no activation map can be made of {specialist.card.architecture}: {error}"
        ) from error
    return _on_image(heat, specialist, image)


def _grad_cam(specialist: TimmSpecialist, image: Image, index: int) -> Heat:
    import torch
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    transform = specialist.card.transform
    pixels = torch.from_numpy(transform.resize(image)[None].copy()).to(specialist.device).permute(0, 3, 1, 2)
    batch = normalise(pixels, transform)
    with _backward, _frozen(specialist.network), torch.enable_grad():
        split = _split(specialist.network)
        camera = GradCAM(
            model=split,
            target_layers=[_last_mixing(specialist.network) or split.seam],
            reshape_transform=lambda features: _as_planes(features, specialist.network),
        )
        with camera:
            # The library's annotation says modules; it calls them, and its own targets are none.
            targets: Any = [ClassifierOutputTarget(index)]
            maps = camera(input_tensor=batch.requires_grad_(), targets=targets)
    heat = np.asarray(maps[0], dtype=np.float32)
    if not np.isfinite(heat).all():
        raise ValueError("its gradients are not finite")
    return heat


def _split(network: nn.Module) -> nn.Module:
    """The network with a seam between feature map and head, where hooks of the library's can hold."""
    from torch import nn

    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.seam = nn.Identity()

        def forward(self, batch: Tensor) -> Tensor:
            timm_network = cast(Any, self.network)
            return timm_network.forward_head(self.seam(timm_network.forward_features(batch)))

    return Split().eval()


def _last_mixing(network: nn.Module) -> nn.Module | None:
    """Where a transformer that decides by its class token last mixes in what the patches say."""
    if getattr(network, "global_pool", "") != "token":
        return None
    blocks = list(cast(Any, network).blocks)
    return blocks[-1].norm1


def _as_planes(features: Tensor, network: nn.Module) -> Tensor:
    """Features as (n, channels, rows, columns), whether they come so, channels last or as tokens."""
    if features.ndim == 3:
        tokens = features[:, int(getattr(network, "num_prefix_tokens", 0)) :]
        side = round(tokens.shape[1] ** 0.5)
        if side * side != tokens.shape[1]:
            raise ValueError("its tokens form no square")
        features = tokens.reshape(len(tokens), side, side, -1)
    if features.ndim != 4:
        raise ValueError("its features form no plane")
    channels = int(getattr(network, "num_features", 0))
    last = features.shape[3] == channels and features.shape[1] != channels
    return features.permute(0, 3, 1, 2) if last else features


@contextmanager
def _frozen(network: nn.Module) -> Generator[None]:
    """Keep gradients off the parameters: the library asks for those of the features only."""
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _on_image(heat: Heat, specialist: TimmSpecialist, image: Image) -> Heat:
    """Bring heat over the network's input back onto the image, undoing canvas and stretching."""
    from PIL import Image as Pillow

    transform = specialist.card.transform
    start = (transform.side - transform.size) // 2
    seen = heat[start : start + transform.size, start : start + transform.size]
    stretched = Pillow.fromarray(seen).resize(image.size, Pillow.Resampling.BILINEAR)
    return np.clip(np.asarray(stretched, dtype=np.float32), 0.0, 1.0)
