"""The frozen teacher: EfficientNet-Lite0 with ImageNet weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...specialist.backbone import LITE0_ARCHITECTURE, LITE0_TRANSFORM, read_lite0
from .embeddings import Embed

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES_AT_ONCE = 32


def lite0() -> Embed:
    """Load the teacher.

    Raises:
        SpecialistError: the package with its weights is not installed.
    """
    import timm
    import torch

    network: Any = timm.create_model(LITE0_ARCHITECTURE, num_classes=1000)
    network.load_state_dict(read_lite0())
    network = network.eval().to(memory_format=torch.channels_last)
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (LITE0_TRANSFORM.mean, LITE0_TRANSFORM.std)
    )

    @torch.inference_mode()
    def embed(images: Sequence[Image]) -> npt.NDArray[np.float32]:
        found = []
        for start in range(0, len(images), IMAGES_AT_ONCE):
            resized = [LITE0_TRANSFORM.resize(image) for image in images[start : start + IMAGES_AT_ONCE]]
            pixels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255
            inputs = ((pixels - mean) / std).to(memory_format=torch.channels_last)
            features = network.forward_head(network.forward_features(inputs), pre_logits=True)
            found.append(torch.nn.functional.normalize(features, dim=1))
        return torch.cat(found).numpy()

    return embed
