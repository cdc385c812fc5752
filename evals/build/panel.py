"""Which specialists a build trains: by the number of images, their size, and the time that is given."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Sequence
from typing import Literal

from ...case import Task
from ...errors import ImageError
from ...models.dataset import Item
from ...models.specialist.backbone import LITE0
from ...models.specialist.recipe import TrainingConfig
from .parts import DataParts

Speed = Literal["fast", "usual", "thorough"]

SECOND_SIZE, SMALL_SIDE, SMALL_SIZE = 224, 96, 96
"""The backbone looks a second time at this size; at the small size where images are smaller than the side."""
LEAST_FINE_TUNED, LEAST_SCRATCH = 300, 1000
"""Training images from which on a network is fine-tuned, or trained from scratch."""
STEPS = 1500
"""Batches that a trained network sees at the least: small sets need more epochs."""
_LOOKED_AT = 24
_HEAD: dict[str, object] = {
    "architecture": "tf_efficientnet_lite0",
    "init": LITE0,
    "trainable": "head",
    "class_weighting": "none",
    "decision": "argmax",
}
_SIDED = frozenset(
    {
        "left",
        "right",
        "side",
        "laterality",
        "chest",
        "thorax",
        "xray",
        "radiograph",
        "radiography",
        "ray",
        "ct",
        "abdomen",
        "abdominal",
        "heart",
        "cardiac",
        "ecg",
        "ekg",
        "eeg",
        "document",
        "text",
    }
)
"""Words of a card by which its images are not mirrored: left and right differ, or letters stand on them."""
_SECONDS_PER_CASE = 0.05
"""That a case takes beside the networks, when the decision is fitted and measured."""
_FINE_TUNING, _SCRATCH = 4.0, 1.5
"""Seconds of a training step per image, in those of embedding it."""


def panel_of(
    task: Task, parts: DataParts, speed: Speed, seed: int, *, asking: bool = False
) -> list[TrainingConfig]:
    """The recipes of a build's panel, the cheapest first.

    Args:
        task: what they are for.
        parts: the data.
        speed: ``fast`` takes frozen backbones only.
        seed: of the trainings.
        asking: whether the generalist takes part in the fit, which then needs images that taught nobody.
    """
    given = {
        "data": parts.dataset.folder,
        "task": task.name,
        "seed": seed,
        "licence": task.licence,
        "source": task.source,
    }
    size = second_size(parts["train"])
    images = len(parts["train"])
    # Heads alone learn from all images, and are fitted together by what they say out of fold.
    only_heads = speed == "fast" or images < LEAST_FINE_TUNED
    refit, mirror = only_heads and not asking, speed == "thorough" and may_be_mirrored(task)
    recipes: list[dict[str, object]] = [
        {"name": "probe", "image_size": 160, "refit": refit, **_HEAD},
        {"name": f"probe{size}", "image_size": size, "refit": refit, "mirror": mirror, **_HEAD},
    ]
    if not only_heads:
        recipes.append(
            {
                "name": "tuned",
                "architecture": "tf_efficientnet_lite0",
                "init": LITE0,
                "image_size": 128,
                "trainable": ("blocks.4.*", "blocks.5.*", "blocks.6.*", "conv_head.*", "bn2.*"),
                "epochs": _epochs(images, 5, 15),
                "learning_rate": 5e-4,
                "warmup_epochs": 0.5,
                "augmentation": "strong",
                **_LEARNT,
            }
        )
    if speed == "thorough" and images >= LEAST_SCRATCH:
        recipes.append(
            {
                "name": "regnet",
                "architecture": "regnetx_002",
                "image_size": 112,
                "epochs": _epochs(images, 12, 60),
                "learning_rate": 1.5e-3,
                "augmentation": "strong",
                **_LEARNT,
            }
        )
    return [TrainingConfig.model_validate({**given, **recipe}) for recipe in recipes]


_LEARNT: dict[str, object] = {
    "batch_size": 32,
    "patience": 100,
    "class_weighting": "none",
    "decision": "argmax",
    "label_smoothing": 0.0,
}


def may_be_mirrored(task: Task) -> bool:
    """Whether left and right mean nothing on a task's images, as far as its words tell."""
    words = " ".join([task.name, task.title, task.modality, *task.options]).casefold()
    return not set(re.split(r"[^a-z]+", words)) & _SIDED


def second_size(items: Sequence[Item]) -> int:
    """At which size the backbone looks a second time: larger, unless the images are small."""
    from ...images import read_image

    sides = []
    for item in items[:: max(1, len(items) // _LOOKED_AT)][:_LOOKED_AT]:
        try:
            sides.append(min(read_image(item.path).size))
        except ImageError:
            continue
    return SMALL_SIZE if sides and statistics.median(sides) < SMALL_SIDE else SECOND_SIZE


def estimated_seconds(panel: Sequence[TrainingConfig], parts: DataParts) -> float:
    """Estimate how long a build takes, from how long the backbone takes on a few of its images."""
    per_image = _seconds_per_image(parts["train"])
    known, cases = len(parts["train"]), sum(len(parts[part]) for part in ("fit", "certify", "test"))
    total = _SECONDS_PER_CASE * cases
    for recipe in panel:
        factor = (recipe.image_size / 160) ** 2
        # Once to be trained or indexed on, once to be asked.
        looks = 2 if recipe.mirror else 1
        total += per_image * factor * looks * (2 * known + len(parts["fit"]) * 2 + cases)
        if recipe.trainable != "head":
            step = _FINE_TUNING if recipe.init == LITE0 else _SCRATCH
            total += per_image * factor * step * known * recipe.epochs
    return total


def _seconds_per_image(items: Sequence[Item]) -> float:
    """Measured on a few images: decoding, resizing and the backbone at 160 pixels."""
    import torch

    from ...images import read_image
    from ...models.specialist.backbone import LITE0_ARCHITECTURE, LITE0_TRANSFORM, initialise
    from ...models.specialist.network import create_network, normalise, trunk

    network = create_network(LITE0_ARCHITECTURE, 2, image_size=LITE0_TRANSFORM.side).eval()
    initialise(network, LITE0)
    seconds = []
    with torch.inference_mode():
        for item in items[:: max(1, len(items) // 8)][:9]:
            start = time.perf_counter()
            try:
                pixels = torch.tensor(LITE0_TRANSFORM.resize(read_image(item.path)))
            except ImageError:
                continue
            trunk(network, normalise(pixels.permute(2, 0, 1)[None], LITE0_TRANSFORM))
            seconds.append(time.perf_counter() - start)
    # The first one warms up.
    return statistics.median(seconds[1:]) if len(seconds) > 1 else 0.05


def _epochs(images: int, least: int, most: int) -> int:
    """Epochs that give a network ``STEPS`` batches, within bounds."""
    return min(most, max(least, round(STEPS * 32 / images)))
