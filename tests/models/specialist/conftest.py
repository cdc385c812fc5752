"""Small data sets of real image files, and small specialists trained on them."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gsco.models.specialist.recipe import TrainingConfig
from gsco.models.specialist.training import train_specialist
from PIL import Image

from ...installation import report_folder

__all__ = ["report_folder"]

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


def coloured(labels: tuple[str, ...], seed: int, size: int = 24) -> Image.Image:
    """A noisy picture: one stripe per label, in its colour; grey for none."""
    random = np.random.default_rng(seed)
    pixels = np.full((size, size, 3), 128.0)
    for place, label in enumerate(labels):
        pixels[place * size // len(labels) :] = COLOURS[label]
    pixels += random.normal(0, 25, pixels.shape) + random.normal(0, 15, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_dataset(folder: Path, rows: list[tuple[tuple[str, ...], str, str]]) -> Path:
    """Write one image per row of (labels, group, split)."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "group", "split"])
        for number, (labels, group, split) in enumerate(rows):
            coloured(labels, number).save(folder / f"{number:03d}.png")
            table.writerow([f"{number:03d}.png", "+".join(labels), group, split])
    return folder


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, 60 images, two per group."""
    splits = ("train", "train", "train", "val", "test")
    rows = [
        ((label,), f"{label}{number // 2}", splits[number // 2 % 5])
        for number in range(20)
        for label in COLOURS
    ]
    return write_dataset(tmp_path_factory.mktemp("data") / "colours", rows)


@pytest.fixture(scope="session")
def mixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several colours in one image, or none."""
    sets = [("red",), ("green",), ("green", "red"), ("blue", "red"), ("blue",), ()]
    splits = ("train", "train", "train", "val", "test")
    rows = [(sets[number % 6], str(number), splits[number // 6 % 5]) for number in range(120)]
    return write_dataset(tmp_path_factory.mktemp("data") / "mixtures", rows)


@pytest.fixture(scope="session")
def recipe(colours: Path) -> Callable[..., TrainingConfig]:
    """Make a configuration that trains in about a second."""

    def make(**changes: Any) -> TrainingConfig:
        tiny: dict[str, Any] = {
            "data": colours,
            "task": "colours",
            "name": "tiny",
            "architecture": "test_resnet",
            "image_size": 32,
            "epochs": 3,
            "batch_size": 9,
            "warmup_epochs": 0.0,
            "learning_rate": 3e-3,
            "precision": "fp32",
            "device": "cpu",
        }
        return TrainingConfig.model_validate({**tiny, **changes})

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, recipe: Callable[..., TrainingConfig]) -> Path:
    """A finished specialist's folder; do not change it."""
    out = tmp_path_factory.mktemp("specialists")
    return train_specialist(recipe(evaluate_test=True), out, command="train it", quiet=True)
