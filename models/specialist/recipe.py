"""How a specialist is trained: the configuration and its presets."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from ...errors import ConfigurationError
from .augmentation import LEVELS, Augmentation, Level
from .weighting import Rule

Decision = Literal["argmax", "prior", "balanced"]

PRESETS: Mapping[str, Mapping[str, object]] = {
    "reference": {
        "image_size": 224,
        "init": "timm",
        "trainable": "all",
        "epochs": 100,
        "learning_rate": 1e-4,
        "head_rate": 1.0,
        "weight_decay": 0.01,
        "warmup_epochs": 0.0,
        "batch_size": 64,
        "patience": 5,
        "criterion": "loss",
        "augmentation": "none",
        "class_weighting": "none",
        "label_smoothing": 0.0,
        "dropout": 0.0,
        "decision": "argmax",
        "storage": "float32",
        "precision": "fp32",
    },
    "compact": {},
}
"""``reference`` is the paper's recipe; ``compact`` are the defaults below, made for a CPU."""


_ELSEWHERE = ("hf-hub:", "hf_hub:", "local-dir:")
"""Prefixes of architectures that timm builds from a hub or a folder."""


class TrainingConfig(BaseModel):
    """Everything that decides a training's result, and where its data are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Literal["compact", "reference"] = "compact"
    """Sets every field that is not given."""
    data: Path
    """Data set: see ``models.dataset.read_dataset``."""
    task: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    architecture: str = "tf_efficientnet_lite0"
    """A name of timm's, with or without the hub's ``timm/`` before it, or ``hf-hub:OWNER/NAME``."""
    image_size: Annotated[int, Field(ge=16, le=2048)] = 160
    init: str = "scratch"
    """``scratch``, ``timm`` (its hub), the path of a weights' file, or the name of a shared backbone."""
    trainable: Literal["all", "head"] | tuple[str, ...] = "all"
    """``head`` trains a logistic regression on the frozen backbone's embeddings; a list holds patterns
    (``blocks.6.*``) of the parameters that are trained besides the classifier."""

    refit: bool = False
    """Of a head: whether it learns from the validation images too once C is chosen. Then it is measured out
    of fold only."""

    mirror: bool = False
    """Of a head: whether it may look at mirror images too; it does where that lowers its log loss out of
    fold."""

    epochs: Annotated[int, Field(ge=1)] = 30
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    head_rate: Annotated[float, Field(gt=0)] = 1.0
    """Factor on the classifier's learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    batch_size: Annotated[int, Field(ge=2)] = 64
    patience: Annotated[int, Field(ge=1)] = 5
    """Epochs without improvement on the validation split after which training stops."""
    criterion: Literal["loss", "balanced_accuracy"] = "loss"
    """What the best epoch is chosen by."""
    augmentation: Level | Augmentation = "light"
    class_weighting: Rule = "balanced"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Alpha of mixup's Beta distribution; 0 is off."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per step of a moving average of the weights, which is what is kept; 0 is off."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2

    decision: Decision = "balanced"
    """Correction of the decision for single-label tasks: none; towards equal priors by the training
    counts; or that, then adjusted on the validation split (``calibration.fit_bias``)."""
    storage: Literal["int8", "float16", "float32"] = "float16"
    """``int8`` has one scale per output channel and halves the file again."""
    seed: int = 0
    """Draws weights, order, augmentation, and the splits where the data set has none."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``auto`` is bf16 autocast where the processor computes it natively."""
    device: str = "auto"
    """``auto`` is the first GPU, else the CPU."""
    memory_mib: Annotated[int, Field(ge=0)] = 2048
    """Decoded images are kept in memory up to so much, else decoded in every epoch."""
    evaluate_test: bool = False
    """Whether the card also reports the test split. It decides nothing."""
    licence: str = ""
    source: str = ""

    @model_validator(mode="before")
    @classmethod
    def _without_the_hub_owner(cls, given: object) -> object:
        """Take ``timm/resnet18.a1_in1k``, as the hub writes it, for timm's own ``resnet18.a1_in1k``."""
        if not isinstance(given, Mapping) or not isinstance(given.get("architecture"), str):
            return given
        return {**given, "architecture": given["architecture"].removeprefix("timm/")}

    @field_validator("architecture")
    @classmethod
    def _of_timm_or_a_hub(cls, architecture: str) -> str:
        if "/" in architecture and not architecture.startswith(_ELSEWHERE):
            raise ValueError(
                f"{architecture!r} is not in timm; write hf-hub:{architecture} for a model of a "
                "hub in timm's form"
            )
        return architecture

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: object) -> object:
        if isinstance(given, Mapping) and given.get("preset") in PRESETS:
            return {**PRESETS[given["preset"]], **given}
        return given

    @model_validator(mode="after")
    def _frozen_needs_weights(self) -> Self:
        if self.trainable != "all" and self.init == "scratch":
            raise ValueError("a frozen network needs pretrained weights: set init, or trainable = 'all'")
        return self

    @classmethod
    def from_toml(cls, path: Path, **overrides: object) -> TrainingConfig:
        """Read a TOML file; a relative ``data`` is relative to the file.

        Raises:
            ConfigurationError: it cannot be read, has an unknown key or a value that does not fit.
        """
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
            if isinstance(given.get("data"), str):
                given["data"] = path.parent / given["data"]
            return cls.model_validate({**given, **overrides})
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
            raise ConfigurationError(f"training configuration {path.name}: {error}") from error

    @property
    def amount(self) -> Augmentation:
        """The augmentation in numbers."""
        return LEVELS[self.augmentation] if isinstance(self.augmentation, str) else self.augmentation

    def record(self) -> dict[str, JsonValue]:
        """Return what decides the result, as JSON: no place of the data, no device, no memory."""
        content = self.model_dump(mode="json", exclude={"data", "device", "memory_mib", "evaluate_test"})
        if "/" in self.init or Path(self.init).suffix:
            content["init"] = Path(self.init).name
        return content

    def fingerprint(self, *parts: str) -> str:
        """Hash the record and further parts (data set, backbone): equal means the same training."""
        # Defaults are left out: a field that a later version adds does not change old fingerprints.
        chosen = {name: value for name, value in self.record().items() if value != _DEFAULTS.get(name)}
        text = json.dumps([chosen, *parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


_DEFAULTS = {
    name: json.loads(json.dumps(field.default))
    for name, field in TrainingConfig.model_fields.items()
    if not field.is_required()
}
