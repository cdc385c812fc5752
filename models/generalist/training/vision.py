"""The first stage: the vision tower learns every label of every task, and its teacher's view of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from ....errors import ConfigurationError, GeneralistError
from .architecture import build_model
from .config import GeneralistTraining
from .pixels import Images, normalise
from .teacher import TeacherNetwork, matching_loss
from .trainer import Optimisation, cast, dtype_of, read_checkpoint, write_checkpoint
from .views import BATCH_OF_EVALUATION, Views, accuracies, percents

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import InternVLForConditionalGeneration

CHECKPOINT = "vision.pt"


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
    config: GeneralistTraining, images: Mapping[str, list[Images]], teacher: TeacherNetwork | None = None
) -> Path:
    """Train the tower, or recognise that it is trained; the checkpoint holds its weights.

    Args:
        config: the whole configuration; the sections ``architecture`` and ``vision`` count.
        images: from ``read_images``.
        teacher: from ``train_teacher``; None learns from labels alone.

    Raises:
        ConfigurationError: the checkpoint is another configuration's.
    """
    settings = config.vision
    classifier = _classifier(config, images, teacher.width if teacher else 0).to(config.place)
    views = Views(config, images["train"], settings, channel=1)
    stage = Optimisation(
        classifier,
        settings,
        views.steps,
        dtype=dtype_of(config.precision, config.place),
        checkpoint=config.work / CHECKPOINT,
        fingerprint=config.fingerprint("vision"),
        every=config.checkpoint_every,
        seed=config.seed,
    )

    def losses_of(step: int) -> list[Tensor]:
        drawn = views.draw(step)
        features = classifier(drawn.images)
        logits = classifier.labels(features).float()
        loss = drawn.loss(logits, settings.label_smoothing)
        if teacher is None or classifier.teacher is None:
            return [loss]
        embeddings = classifier.teacher(features).float()
        divergence, distance = matching_loss(teacher, drawn.images, logits, embeddings, settings.temperature)
        return [loss + settings.matching * divergence + settings.distillation * distance]

    stage.run(
        losses_of,
        "vision",
        evaluate=lambda: "validation " + percents(accuracies(classifier, images["val"])),
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
    model = earlier.model
    try:
        classifier.tower.load_state_dict(model.model.vision_tower.state_dict())
    except (AttributeError, RuntimeError) as error:
        raise ConfigurationError(f"the tower of {config.tower} does not fit the architecture") from error
    _fit_heads(classifier.eval(), images["train"], config.architecture.image_size)
    steps = config.vision.steps(sum(map(len, images["train"])))
    state = {
        "fingerprint": config.fingerprint("vision"),
        "step": steps,
        "total": steps,
        "weights": {name: weight.detach() for name, weight in classifier.named_parameters()},
        "buffers": {},
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
    cast(classifier, dtype_of(config.precision, config.place))
    return classifier.to(config.place).eval()


def _classifier(
    config: GeneralistTraining, images: Mapping[str, list[Images]], teacher_width: int
) -> Classifier:
    from .tokenizer import train_tokenizer

    # The decoder is thrown away here; building the whole keeps one path to the tower's first weights.
    model = build_model(config.architecture, train_tokenizer([], 320), config.seed)
    if config.place.type == "cuda":
        model.set_attn_implementation("sdpa")
    labels = sum(len(source.labels) for source in images["train"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Classifier(model.model.vision_tower, config.architecture.vision_width, labels, teacher_width)
