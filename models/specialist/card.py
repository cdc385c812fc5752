"""A specialist's card: everything about the weights that is not a weight."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, JsonValue, ValidationError

from ...case import Probability, Record, TaskKind
from ...disk import read_file, replacing
from ...errors import SpecialistError

if TYPE_CHECKING:
    from PIL.Image import Image

CARD_FILE = "card.json"
_MAX_BYTES = 16 * 2**20

C = TypeVar("C", bound=Record)

Triple = tuple[float, float, float]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Transform(Record):
    """How pixels become the network's input. It belongs to the model as much as its weights."""

    size: Annotated[int, Field(ge=8, le=4096)] = 224
    """Images are stretched to size × size, as in the reference."""
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    canvas: Annotated[int, Field(ge=0, le=4096)] = 0
    """Where larger than size: the image stands in the middle of a canvas of the mean colour, as the
    reference pads small benchmark images."""
    mirrored: bool = False
    """Whether the network looks at the mirror image too, and the mean of both embeddings counts."""

    @property
    def side(self) -> int:
        """Width and height of the network's input."""
        return max(self.size, self.canvas)

    def resize(self, image: Image) -> npt.NDArray[np.uint8]:
        """Return the image as RGB pixels, uint8 (side, side, 3)."""
        from PIL.Image import Resampling

        # Grey stays grey until it is small: the result is the same at a third of the work.
        plain = image if image.mode == "L" else image.convert("RGB")
        resized = plain.resize((self.size, self.size), Resampling[self.interpolation.upper()]).convert("RGB")
        pixels = np.asarray(resized, dtype=np.uint8)
        if self.canvas <= self.size:
            return pixels
        start = (self.canvas - self.size) // 2
        padded = np.empty((self.canvas, self.canvas, 3), dtype=np.uint8)
        padded[:] = np.round(np.asarray(self.mean) * 255).astype(np.uint8)
        padded[start : start + self.size, start : start + self.size] = pixels
        return padded


class MetricValue(Record):
    """A number with its bootstrap 95 % interval."""

    value: float
    low: float
    high: float
    n: int | None = None
    """Images that it is over."""


class Weights(Record):
    """The weights' file beside the card."""

    file: str = "weights.safetensors"
    sha256: Sha256
    dtype: Literal["int8", "float16", "float32"] = "float32"
    """How tensors with two or more dimensions are stored; smaller ones are always float32."""


class Base(Record):
    """The shared backbone that holds the tensors which the weights' file leaves out."""

    name: str
    sha256: Sha256
    """Of the backbone's weights' file."""


class DataSummary(Record):
    """What the specialist was trained on."""

    name: str
    sha256: Sha256
    counts: Mapping[str, Mapping[str, int]] = Field(default_factory=dict)
    """Images per split and label."""


class SpecialistCard(Record):
    """A specialist, described."""

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    task: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    kind: TaskKind = TaskKind.DIAGNOSIS
    architecture: str
    """Name in timm's registry."""
    labels: tuple[str, ...] = ()
    transform: Transform = Transform()
    encoder: str = ""
    """Name of the embedding space; equal names mean comparable embeddings."""
    embedding_width: int = 0
    temperature: Annotated[float, Field(gt=0)] = 1.0
    bias: tuple[float, ...] = ()
    """Added to the logits after division by the temperature, one per label: the correction from the
    training data's prior to an equal one. Empty means zero."""
    thresholds: tuple[float, ...] = ()
    """For multi-label tasks: a label is said from this probability on. Empty means 0.5."""
    reliability: Probability | None = None
    """Balanced accuracy on the validation split."""
    metrics: Mapping[str, Mapping[str, MetricValue]] = Field(default_factory=dict)
    """Per split: accuracy, balanced_accuracy, macro_f1, auroc and ece."""
    training: Mapping[str, JsonValue] = Field(default_factory=dict)
    """The training configuration, without the place of the data."""
    fingerprint: str = ""
    """Hash of configuration, data and initial weights; equal means the same training."""
    history: Mapping[str, JsonValue] = Field(default_factory=dict)
    """How the training went: epochs run, best epoch, best validation numbers."""
    data: DataSummary | None = None
    seed: int = 0
    licence: str = ""
    source: str = ""
    """Where data and pretrained weights came from, with attribution."""
    weights: Weights
    base: Base | None = None
    command: str = ""
    gsco: str = ""
    """Version of gsco that wrote the card."""

    @property
    def held_out(self) -> float | None:
        """Balanced accuracy on the test split, which chose nothing; None where it was not measured."""
        found = self.metrics.get("test", {}).get("balanced_accuracy")
        return None if found is None else found.value

    @property
    def multilabel(self) -> bool:
        """Whether any number of labels may hold at once."""
        return self.kind is TaskKind.MULTILABEL


class BackboneCard(Record):
    """A pretrained network without its classifier, shared by several specialists."""

    format: Literal[1] = 1
    name: str
    architecture: str
    transform: Transform
    """The transform under which its embeddings carry the backbone's own name as encoder."""
    embedding_width: int
    licence: str = ""
    source: str = ""
    weights: Weights
    gsco: str = ""


def read_card(folder: Path, kind: type[C]) -> C:
    """Read ``card.json`` of a folder.

    Raises:
        SpecialistError: there is none, or it is not such a card.
    """
    path = folder / CARD_FILE
    try:
        return kind.model_validate_json(read_file(path, _MAX_BYTES))
    except FileNotFoundError as error:
        raise SpecialistError(
            f"{folder.name!r} has no {CARD_FILE}: it is not a finished specialist or backbone"
        ) from error
    except (OSError, ValidationError) as error:
        raise SpecialistError(f"the card of {folder.name!r} cannot be read: {error}") from error


def write_card(folder: Path, card: Record) -> None:
    """Write ``card.json`` atomically."""
    text = json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    with replacing(folder / CARD_FILE) as fresh:
        fresh.write_text(text, encoding="utf-8")
