"""The teacher: EfficientNet-Lite0 with ImageNet weights, fine-tuned on the same labels as the tower.

The tower is too small, and its images too few, to be learnt from labels alone. The teacher looks at the very
same augmented view as the tower does, for as long as that one learns (Beyer et al. 2022, Knowledge
distillation: a good teacher is patient and consistent).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from ...specialist.backbone import LITE0_ARCHITECTURE, read_lite0
from .config import GeneralistTraining
from .pixels import Images
from .trainer import Optimisation, dtype_of
from .views import Views, accuracies, percents

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT = "teacher.pt"
EVALUATE_EVERY = 500


class TeacherNetwork(nn.Module):
    """A convolutional network of timm with a head for the labels of all tasks together.

    Args:
        architecture: in timm; EfficientNet-Lite0 starts with ImageNet weights, any other from scratch.
        labels: of all tasks.
        low: whether it computes in bfloat16; its weights stay float32, as batch normalisation needs them.

    Raises:
        SpecialistError: the package with the weights is not installed.
    """

    def __init__(self, architecture: str, labels: int, *, low: bool = False) -> None:
        import timm

        super().__init__()
        self._low = low
        self.network: Any = timm.create_model(architecture, num_classes=1000)
        if architecture == LITE0_ARCHITECTURE:
            self.network.load_state_dict(read_lite0())
        self.width: int = self.network.num_features
        self.network.reset_classifier(0)
        self.labels = nn.Linear(self.width, labels)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, images: Tensor) -> Tensor:
        """Features of normalised images, float32 (n, width)."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._low):
            return self.network(images.contiguous(memory_format=torch.channels_last)).float()


def train_teacher(config: GeneralistTraining, images: Mapping[str, list[Images]]) -> TeacherNetwork | None:
    """Fine-tune the teacher, or go on, or recognise that it is trained; None where there is none.

    Args:
        config: the section ``teacher`` counts.
        images: from ``read_images``.

    Returns:
        The teacher on the training's device, in evaluation mode and without gradients.

    Raises:
        ConfigurationError: the checkpoint is another configuration's.
        SpecialistError: the package with the weights is not installed.
    """
    settings = config.teacher
    if settings is None:
        return None
    labels = sum(len(source.labels) for source in images["train"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        # On a CPU depthwise convolutions lose by bfloat16.
        low = config.place.type == "cuda" and dtype_of(config.precision, config.place) == torch.bfloat16
        teacher = TeacherNetwork(settings.architecture, labels, low=low).to(config.place)
    views = Views(config, images["train"], settings, channel=6)
    stage = Optimisation(
        teacher,
        settings,
        views.steps,
        dtype=torch.float32,
        checkpoint=config.work / CHECKPOINT,
        fingerprint=config.fingerprint("teacher"),
        every=config.checkpoint_every,
        seed=config.seed + 3,
    )

    def losses_of(step: int) -> list[Tensor]:
        drawn = views.draw(step)
        return [drawn.loss(teacher.labels(teacher(drawn.images)), settings.label_smoothing)]

    stage.run(
        losses_of,
        "teacher",
        evaluate=lambda: "validation " + percents(accuracies(teacher, images["val"])),
        evaluate_every=EVALUATE_EVERY,
    )
    return teacher.eval().requires_grad_(False)


def matching_loss(
    teacher: TeacherNetwork, images: Tensor, logits: Tensor, embeddings: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """How far a student is from the teacher on the same images.

    Args:
        teacher: in evaluation mode.
        images: normalised, (n, 3, side, side).
        logits: the student's, float32 (n, labels).
        embeddings: the student's guess at the teacher's features, float32 (n, teacher's width).
        temperature: that both distributions are softened by.

    Returns:
        The divergence of the label distributions times the temperature's square, so that its gradient keeps
        its size, and one minus the cosine of the features.
    """
    with torch.no_grad():
        features = teacher(images)
        goal = functional.log_softmax(teacher.labels(features) / temperature, dim=1)
    said = functional.log_softmax(logits / temperature, dim=1)
    divergence = functional.kl_div(said, goal, reduction="batchmean", log_target=True)
    distance = (1 - functional.cosine_similarity(embeddings, features)).mean()
    return divergence * temperature**2, distance
