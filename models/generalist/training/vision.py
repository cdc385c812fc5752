"""The first stage: the vision tower learns every label of every task, and a frozen teacher's view."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from ....errors import ConfigurationError, GeneralistError
from .architecture import build_model
from .config import GeneralistTraining
from .pixels import Images, augment, normalise
from .stage import Optimisation, cast, dtype_of, read_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import InternVLForConditionalGeneration

CHECKPOINT = "vision.pt"
BATCH_OF_EVALUATION = 128


class Classifier(nn.Module):
    """The tower with a head for the labels of all tasks together and one for the teacher's embedding."""

    def __init__(self, tower: nn.Module, width: int, labels: int, teacher_width: int = 0) -> None:
        super().__init__()
        self.tower = tower
        self.norm = nn.LayerNorm(width)
        self.labels = nn.Linear(width, labels)
        self.teacher = nn.Linear(width, teacher_width) if teacher_width else None

    def forward(self, images: Tensor) -> Tensor:
        """Normalised mean of the patch features, (n, width)."""
        dtype = next(self.parameters()).dtype
        features = self.tower(images.to(dtype)).last_hidden_state[:, 1:]
        return self.norm(features.mean(1))


def train_vision(
    config: GeneralistTraining,
    images: Mapping[str, list[Images]],
    teachers: npt.NDArray[np.float32] | None = None,
) -> Path:
    """Train the tower, or recognise that it is trained; the checkpoint holds its weights.

    Args:
        config: the whole configuration; the sections ``architecture`` and ``vision`` count.
        images: from ``read_images``.
        teachers: the frozen teacher's embeddings of all training images, in their order, float32 (n, d).

    Raises:
        ConfigurationError: the checkpoint is another configuration's.
    """
    training, settings = images["train"], config.vision
    teachers = teachers if settings.distillation else None
    width = 0 if teachers is None else teachers.shape[1]
    classifier = _classifier(config, images, width)
    batches = _Batches(config, training, teachers)
    stage = Optimisation(
        classifier,
        settings,
        batches.steps,
        dtype=dtype_of(config.precision),
        checkpoint=config.work / CHECKPOINT,
        fingerprint=config.fingerprint("vision"),
        every=config.checkpoint_every,
        seed=config.seed,
    )
    stage.run(
        lambda step: _loss(classifier, *batches.draw(step), settings.label_smoothing, settings.distillation),
        "vision",
        evaluate=lambda: "validation " + _percents(accuracies(classifier, images["val"])),
        evaluate_every=config.evaluate_every,
    )
    return config.work / CHECKPOINT


def adopt_tower(config: GeneralistTraining, images: Mapping[str, list[Images]]) -> None:
    """Take over the tower of an earlier generalist; only the heads that tell labels are fitted anew.

    Raises:
        ConfigurationError: ``config.tower`` holds no model, or one of other sizes.
    """
    from ..checkpoint import load_checkpoint

    assert config.tower is not None
    try:
        earlier = load_checkpoint(str(config.tower), "cpu", "float32")
    except GeneralistError as error:
        raise ConfigurationError(f"no tower can be taken from {config.tower}: {error}") from error
    classifier = _classifier(config, images, 0)
    model: Any = earlier.model
    try:
        classifier.tower.load_state_dict(model.model.vision_tower.state_dict())
    except (AttributeError, RuntimeError) as error:
        raise ConfigurationError(f"the tower of {config.tower} does not fit the architecture") from error
    _fit_heads(classifier.eval(), images["train"], config.architecture.image_size)
    steps = _Batches(config, images["train"], None).steps
    state = {
        "fingerprint": config.fingerprint("vision"),
        "step": steps,
        "total": steps,
        "weights": {name: weight.detach() for name, weight in classifier.named_parameters()},
        "optimiser": {},
        "from": earlier.version,
    }
    write_checkpoint(state, config.work / CHECKPOINT)


def tower_from(config: GeneralistTraining) -> str | None:
    """Version of the generalist whose tower was taken over; None where it was trained."""
    return read_checkpoint(config.work / CHECKPOINT).get("from")


@torch.no_grad()
def _fit_heads(classifier: Classifier, sources: list[Images], side: int) -> None:
    """Logistic regression of each source's labels on the plain images, all labels weighing the same."""
    from sklearn.linear_model import LogisticRegression

    offset = 0
    for images in sources:
        parts = []
        for start in range(0, len(images), BATCH_OF_EVALUATION):
            batch = normalise(torch.from_numpy(images.pixels[start : start + BATCH_OF_EVALUATION]))
            parts.append(
                classifier(functional.interpolate(batch, size=side, mode="bilinear", antialias=True))
            )
        fitted = LogisticRegression(C=0.1, max_iter=500, class_weight="balanced")
        fitted.fit(torch.cat(parts).numpy(), images.targets)
        weight, bias = torch.from_numpy(fitted.coef_).float(), torch.from_numpy(fitted.intercept_).float()
        if len(images.labels) == 2:  # one row decides between two
            weight, bias = torch.cat([-weight / 2, weight / 2]), torch.cat([-bias / 2, bias / 2])
        own = slice(offset, offset + len(images.labels))
        classifier.labels.weight[own], classifier.labels.bias[own] = weight, bias
        offset += len(images.labels)


def vision_finished(config: GeneralistTraining) -> bool:
    """Whether the checkpoint of this very configuration has all its steps behind it."""
    path = config.work / CHECKPOINT
    if not path.is_file():
        return False
    found = read_checkpoint(path)
    return found["fingerprint"] == config.fingerprint("vision") and found["step"] >= found["total"]


def load_tower(model: InternVLForConditionalGeneration, checkpoint: Path) -> None:
    """Put the first stage's weights into a model's tower.

    Raises:
        ConfigurationError: they do not fit.
    """
    prefix = "tower."
    weights = read_checkpoint(checkpoint)["weights"]
    state = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
    try:
        model.model.vision_tower.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigurationError(f"{checkpoint} does not fit the architecture: {error}") from error


def load_classifier(config: GeneralistTraining, images: Mapping[str, list[Images]]) -> Classifier:
    """The finished first stage's classifier, in evaluation mode."""
    weights = read_checkpoint(config.work / CHECKPOINT)["weights"]
    width = weights["teacher.weight"].shape[0] if "teacher.weight" in weights else 0
    classifier = _classifier(config, images, width)
    classifier.load_state_dict(weights)
    cast(classifier, dtype_of(config.precision))
    return classifier.eval()


def predictions(classifier: Classifier, sources: list[Images]) -> list[npt.NDArray[np.int64]]:
    """Predicted label index of every image, per source, chosen among the source's own labels."""
    found, offset = [], 0
    for images in sources:
        own = slice(offset, offset + len(images.labels))
        offset += len(images.labels)
        parts = [
            classifier.labels(
                classifier(normalise(torch.from_numpy(images.pixels[start : start + BATCH_OF_EVALUATION])))
            )
            for start in range(0, len(images), BATCH_OF_EVALUATION)
        ]
        found.append(torch.cat(parts)[:, own].argmax(1).numpy())
    return found


def accuracies(classifier: Classifier, sources: list[Images]) -> dict[str, float]:
    """Balanced accuracy per task."""
    scores = {}
    for images, predicted in zip(sources, predictions(classifier, sources), strict=True):
        recalls = [
            np.mean(predicted[images.targets == label] == label) for label in np.unique(images.targets)
        ]
        scores[images.source.name] = float(np.mean(recalls))
    return scores


def _classifier(
    config: GeneralistTraining, images: Mapping[str, list[Images]], teacher_width: int
) -> Classifier:
    from .tokenizer import train_tokenizer

    # The decoder is thrown away here; building the whole keeps one path to the tower's first weights.
    model = build_model(config.architecture, train_tokenizer([], 320), config.seed)
    labels = sum(len(source.labels) for source in images["train"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Classifier(model.model.vision_tower, config.architecture.vision_width, labels, teacher_width)


class _Batches:
    """Draws augmented batches; the same step always gives the same batch."""

    def __init__(
        self, config: GeneralistTraining, training: list[Images], teachers: npt.NDArray[np.float32] | None
    ) -> None:
        self._config, self._training, self._teachers = config, training, teachers
        self._starts = np.cumsum([0, *(len(images) for images in training)])
        offsets = np.cumsum([0, *(len(images.labels) for images in training)])
        self._targets = np.concatenate(
            [i.targets + offset for i, offset in zip(training, offsets, strict=False)]
        )
        counts = np.bincount(self._targets)[self._targets]
        chances = counts ** (config.vision.balance - 1.0)
        self._chances = np.cumsum(chances / chances.sum())
        self.steps = max(1, config.vision.epochs * len(self._targets) // config.vision.batch)

    def draw(self, step: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Images, labels and the teacher's embeddings."""
        random = np.random.default_rng([self._config.seed, 1, step])
        batch = self._config.vision.batch
        # Stratified draws: evenly spaced quantiles with one jitter each keep a batch's mixture steady.
        places = np.searchsorted(self._chances, (np.arange(batch) + random.random(batch)) / batch)
        chosen = np.minimum(places, len(self._targets) - 1)
        sources = np.searchsorted(self._starts, chosen, side="right") - 1
        pixels = np.stack(
            [self._training[s].pixels[i - self._starts[s]] for s, i in zip(sources, chosen, strict=True)]
        )
        upright = torch.tensor([not self._training[s].source.any_way_up for s in sources])
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        side, strength = self._config.architecture.image_size, self._config.vision.augmentation
        images = augment(normalise(torch.from_numpy(pixels)), side, generator, strength, upright)
        teachers = None if self._teachers is None else torch.from_numpy(self._teachers[chosen])
        return images, torch.from_numpy(self._targets[chosen]), teachers


def _loss(
    classifier: Classifier,
    images: Tensor,
    targets: Tensor,
    teachers: Tensor | None,
    smoothing: float,
    weight: float,
) -> Tensor:
    features: Tensor = classifier(images)
    loss = functional.cross_entropy(classifier.labels(features).float(), targets, label_smoothing=smoothing)
    if teachers is not None and classifier.teacher is not None:
        loss = (
            loss
            + weight
            * (1 - functional.cosine_similarity(classifier.teacher(features).float(), teachers)).mean()
        )
    return loss


def _percents(scores: Mapping[str, Any]) -> str:
    return " ".join(f"{name} {100 * value:.1f}%" for name, value in scores.items())
