"""A toy data set, its task card, and a configuration that trains in seconds."""

from pathlib import Path
from typing import Any

import numpy as np
from gsco.models.generalist.training.config import GeneralistTraining
from PIL import Image

LABELS = ("bright", "dark")
COUNTS = {"train": 24, "val": 8, "test": 4}
SIZES = {
    "image_size": 16,
    "patch_size": 4,
    "vision_width": 16,
    "vision_layers": 1,
    "vision_heads": 2,
    "width": 32,
    "layers": 2,
    "heads": 2,
    "key_value_heads": 1,
    "mlp_width": 32,
    "vocabulary": 600,
}


def make_data(folder: Path) -> Path:
    """Bright and dark squares in groups of two; test images are no images at all."""
    (folder / "toy").mkdir(parents=True)
    random = np.random.default_rng(0)
    rows = ["path,label,group,split"]
    for split, count in COUNTS.items():
        for number in range(count):
            label = LABELS[number // 2 % 2]
            path = folder / "toy" / f"{split}{number}.png"
            if split == "test":
                path.write_bytes(f"not an image {number}".encode())
            else:
                pixels = (180 if label == "bright" else 60) + random.integers(-20, 20, size=(20, 20, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(path)
            rows.append(f"{path.name},{label},{split}-{number // 2},{split}")
    (folder / "toy" / "labels.csv").write_text("\n".join(rows))
    (folder / "toy.toml").write_text('name = "toy"\nmodality = "square"\noptions = ["bright", "dark"]\n')
    return folder


def toy_config(data: Path, home: Path, **given: Any) -> GeneralistTraining:
    content = {
        "out": home / "out",
        "work": home / "work",
        "data": data,
        "sources": [{"folder": "toy", "task": str(data / "toy.toml")}],
        "architecture": SIZES,
        "teacher": {"architecture": "test_efficientnet", "epochs": 2, "batch": 8},
        "vision": {"epochs": 2, "batch": 8, "mixed": 0.5},
        "language": {"prompts": 48, "batch": 8, "variants": 2},
        "joint": {"prompts": 8, "batch": 8},
        "precision": "fp32",
        "threads": 1,
        "evaluation_prompts": 4,
    }
    return GeneralistTraining.model_validate(content | given)
