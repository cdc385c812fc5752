"""Heads that look at mirror images too: where that lowers their log loss out of fold, and nowhere else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gsco.case import Task
from gsco.evals.build.panel import may_be_mirrored
from gsco.models.specialist.backbone import save_backbone
from gsco.models.specialist.card import SpecialistCard, Transform, read_card
from gsco.models.specialist.network import create_network, embedded, normalise, trunk, trunk_hash
from gsco.models.specialist.recipe import TrainingConfig
from gsco.models.specialist.specialist import TimmSpecialist
from gsco.models.specialist.training import train_specialist
from PIL import Image, ImageOps

Recipe = Callable[..., TrainingConfig]
SIDE = 32


def bars(folder: Path, place: Callable[[str, int], bool]) -> Path:
    """Two classes of 40 images with an upright bar or a square at the left or at the right."""
    lines = ["path,label,group,split"]
    for number in range(40):
        for label in ("bar", "square"):
            random = np.random.default_rng([number, len(label)])
            pixels = random.integers(0, 100, (SIDE, SIDE, 3), dtype=np.uint8)
            width, height = (3, 20) if label == "bar" or folder.name == "sides" else (4, 15)
            start = 3 if place(label, number) else SIDE - 3 - width
            pixels[6 : 6 + height, start : start + width] += 70
            Image.fromarray(pixels).save(folder / f"{label}{number}.png")
            split = "val" if number % 5 == 4 else "train"
            lines.append(f"{label}{number}.png,{label},{label}{number},{split}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def bases(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    state = create_network("test_resnet", 2).state_dict()
    save_backbone(
        tmp_path / "bases" / "small",
        name="small",
        architecture="test_resnet",
        state=state,
        transform=Transform(size=SIDE),
    )
    return tmp_path / "bases"


def head(recipe: Recipe, data: Path, bases: Path, out: Path, *, mirror: bool) -> SpecialistCard:
    config = recipe(
        data=data, task="bars", name="head", init="small", trainable="head", mirror=mirror, refit=True
    )
    return read_card(train_specialist(config, out, bases=bases, quiet=True), SpecialistCard)


def test_mirror_images_are_used_where_they_lower_the_log_loss_out_of_fold(
    recipe: Recipe, bases: Path, tmp_path: Path
) -> None:
    (tmp_path / "shapes").mkdir()
    # The side means nothing.
    data = bars(tmp_path / "shapes", lambda label, number: (number // 2) % 2 == 0)
    plain = head(recipe, data, bases, tmp_path / "plain", mirror=False)
    card = head(recipe, data, bases, tmp_path / "free", mirror=True)
    assert card.history["oof_loss"] < plain.history["oof_loss"]  # type: ignore[operator]
    assert card.transform.mirrored
    assert card.encoder == f"{plain.encoder}+mirror"
    found = TimmSpecialist.load(tmp_path / "free" / "bars" / "head", bases=bases)
    image = Image.open(data / "bar0.png")
    np.testing.assert_allclose(
        found.features([image]), found.features([ImageOps.mirror(image)]), rtol=1e-4, atol=1e-6
    )


def test_mirror_images_are_not_used_where_the_side_is_the_label(
    recipe: Recipe, bases: Path, tmp_path: Path
) -> None:
    (tmp_path / "sides").mkdir()
    data = bars(tmp_path / "sides", lambda label, number: label == "bar")
    card = head(recipe, data, bases, tmp_path / "free", mirror=True)
    assert not card.transform.mirrored
    assert card.metrics["out of fold"]["balanced_accuracy"].value > 0.8


def test_the_mean_of_both_embeddings_counts_and_other_hashes_stay() -> None:
    network = create_network("test_resnet", 2).eval()
    plain = Transform(size=SIDE)
    batch = torch.arange(2 * 3 * SIDE * SIDE).remainder(251).to(torch.uint8).reshape(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        pixels = normalise(batch, plain)
        mean = (trunk(network, pixels) + trunk(network, pixels.flip(-1))) / 2
        torch.testing.assert_close(embedded(network, batch, Transform(size=SIDE, mirrored=True)), mean)
        torch.testing.assert_close(embedded(network, batch, plain), trunk(network, pixels))
    assert trunk_hash(network, plain) != trunk_hash(network, Transform(size=SIDE, mirrored=True))


@pytest.mark.parametrize(
    ("modality", "options", "allowed"),
    [
        ("dermatoscopy", ("nevus", "melanoma"), True),
        ("breast ultrasound", ("benign", "malignant"), True),
        ("chest X-ray", ("normal", "pneumonia"), False),
        ("fundus photograph", ("left eye", "right eye"), False),
    ],
)
def test_images_of_two_different_sides_are_not_mirrored(
    modality: str, options: tuple[str, ...], allowed: bool
) -> None:
    assert may_be_mirrored(Task(name="mine", modality=modality, options=options)) is allowed
