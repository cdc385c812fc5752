"""A specialist's forward pass, from images to calibrated opinions, against the bare network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import SpecialistError
from .timing import Race, print_table, race

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...models.specialist.specialist import TimmSpecialist

LIMIT = 0.8
"""Share of the bare network's speed that the batched forward pass must reach."""
IMAGES = 64
BATCH = 32

BATCHED = "gsco, batched"
BARE = "timm network, tensors ready"
CHANNELS_LAST = "the same, channels last"
PIPELINE = "timm transform and network"
SINGLY = "gsco, one image at a time"


def measure(
    specialist: TimmSpecialist, images: Sequence[Image], *, batch_size: int = BATCH, rounds: int = 3
) -> Race:
    """Let the specialist and its peers look at the same images, with the same batches and threads."""
    return race(contenders(specialist, images, batch_size), rounds=rounds)


def contenders(
    specialist: TimmSpecialist, images: Sequence[Image], batch_size: int
) -> dict[str, Callable[[], object]]:
    """Name the ways of getting the images' probabilities.

    The bare network is timm's, as ``timm.create_model`` returns it, without transform, embedding or
    calibration, and once more in the memory layout that suits this machine's convolutions, which the
    specialist uses too; the pipeline adds timm's own transform.
    """
    import timm
    import torch
    from timm.data.transforms_factory import create_transform

    card = specialist.card
    size = card.transform.size
    network = timm.create_model(card.architecture, num_classes=len(card.labels), **_sized(specialist)).eval()
    transform: Any = create_transform(
        (3, size, size), mean=card.transform.mean, std=card.transform.std, crop_pct=1.0
    )
    ready = torch.stack([torch.as_tensor(transform(image.convert("RGB"))) for image in images])
    relaid = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ready_relaid = ready.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def bare() -> None:
        for batch in ready.split(batch_size):
            network(batch)

    @torch.inference_mode()
    def channels_last() -> None:
        for batch in ready_relaid.split(batch_size):
            relaid(batch)

    @torch.inference_mode()
    def pipeline() -> None:
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            network(torch.stack([torch.as_tensor(transform(image.convert("RGB"))) for image in part]))

    return {
        BATCHED: lambda: specialist.forward(images, batch_size),
        BARE: bare,
        CHANNELS_LAST: channels_last,
        PIPELINE: pipeline,
        SINGLY: lambda: [specialist.forward([image]) for image in images],
    }


def pictures(n: int, *, size: int = 224, seed: int = 0) -> list[Image]:
    """Make images as large as the bundled data sets' (noise: the time does not depend on the content)."""
    from PIL import Image

    random = np.random.default_rng(seed)
    return [Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8)) for _ in range(n)]


def bundled_specialists() -> Iterator[Path]:
    """Yield one bundled specialist's folder for each architecture.

    Raises:
        SpecialistError: none is bundled.
    """
    from ...models.mini import bundled
    from ...models.specialist.card import SpecialistCard, read_card

    seen: set[str] = set()
    for card_file in sorted(bundled("specialists").glob("*/*/card.json")):
        architecture = read_card(card_file.parent, SpecialistCard).architecture
        if architecture not in seen:
            seen.add(architecture)
            yield card_file.parent
    if not seen:
        raise SpecialistError("no specialists are bundled; build them with `make mini`")


def main() -> None:
    """Measure every bundled architecture and print the table."""
    import torch

    from ...models.specialist.specialist import TimmSpecialist

    images = pictures(IMAGES)
    rows = []
    for folder in bundled_specialists():
        specialist = TimmSpecialist.load(folder)
        result = measure(specialist, images)
        rows.append(
            (
                f"{specialist.card.architecture}, {specialist.card.transform.size} px",
                f"{IMAGES / result.median(BATCHED):.0f}",
                *(f"{result.speed(BATCHED, peer):.2f}" for peer in (BARE, CHANNELS_LAST, PIPELINE, SINGLY)),
            )
        )
    print_table(
        "Specialists",
        ("architecture", "images/s", "× bare network", "× channels last", "× timm pipeline", "× singly"),
        rows,
        note=f"{IMAGES} images in batches of {BATCH}, {torch.get_num_threads()} threads; the bare "
        f"network gets finished tensors. Limit: at least {LIMIT} × the bare network.",
    )


def _sized(specialist: TimmSpecialist) -> dict[str, Any]:
    """Vision transformers are built for one size; convolutional networks refuse the argument."""
    return {"img_size": specialist.card.transform.size} if hasattr(specialist.network, "pos_embed") else {}


if __name__ == "__main__":
    main()
