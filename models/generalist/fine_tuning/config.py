"""The typed configuration of a fine-tuning run, read from TOML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..training.config import of_content, toml_content

Count = Annotated[int, Field(gt=0)]
RECIPES = Path(__file__).with_name("recipes")


class FineTuningSection(BaseModel):
    """Base of every section: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Lora(FineTuningSection):
    """Low-rank changes of the language model's linear layers."""

    rank: Count = 16
    alpha: Count = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class FineTuning(FineTuningSection):
    """All that determines a run. See ``fine_tuning/recipes/meddr.toml``."""

    base: str
    """Checkpoint in MedDr's layout: a folder, or a hub id."""
    collections: tuple[Path, ...]
    """Collection files in the InternVL format."""
    out: Path
    """Folder of the finished adapter; ``checkpoint-N`` folders in it are what a stopped run goes on from."""
    lora: Lora = Lora()
    lr: Annotated[float, Field(gt=0)] = 1e-5
    epochs: Annotated[float, Field(gt=0)] = 2
    global_batch: Count = 128
    """Conversations per step, over all devices and accumulated passes."""
    device_batch: Count = 4
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.03
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    max_tokens: Count = 2048
    """Longer conversations are left out, and counted."""
    image_size: Count = 448
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the computation; ``auto`` is bf16 on a GPU."""
    gradient_checkpointing: bool = True
    deepspeed: Path | None = None
    """DeepSpeed configuration, for models that no single device holds."""
    save_every: Count = 200
    """Steps between two checkpoints."""
    seed: int = 42


def is_fine_tuning(path: Path) -> bool:
    """Whether a configuration file names a checkpoint to start from.

    Raises:
        ConfigurationError: it cannot be read.
    """
    return "base" in toml_content(path)


def load_fine_tuning(path: Path, **given: Any) -> FineTuning:
    """Read a configuration file; what is given and not None goes before it.

    Raises:
        ConfigurationError: the file is missing, no TOML, or a field is unknown, missing or wrong.
    """
    content = toml_content(path) | {name: value for name, value in given.items() if value is not None}
    content["collections"] = [os.path.expandvars(one) for one in map(str, content.get("collections", ()))]
    return of_content(FineTuning, content, path, places=("base", "out"))
