from pathlib import Path

import torch
from gsco.models.generalist.training.pixels import normalise, read_images
from gsco.models.generalist.training.teacher import TeacherNetwork, matching_loss, train_teacher
from gsco.models.generalist.training.views import accuracies

from .toys import toy_config


def test_the_teacher_learns_the_toy_and_is_left_alone_then(data: Path, tmp_path: Path) -> None:
    config = toy_config(
        data, tmp_path, teacher={"architecture": "test_efficientnet", "epochs": 20, "batch": 8, "lr": 5e-3}
    )
    images = read_images(config)
    teacher = train_teacher(config, images)
    assert teacher is not None and not any(weight.requires_grad for weight in teacher.parameters())
    assert accuracies(teacher, images["val"])["toy"] > 0.9
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}
    again = train_teacher(config, images)
    assert again is not None
    kept = again.state_dict()
    assert any("running_mean" in name for name in kept)
    assert all(torch.equal(kept[name], before[name]) for name in kept)


def test_without_a_teacher_there_is_none(data: Path, tmp_path: Path) -> None:
    config = toy_config(data, tmp_path, teacher=None)
    assert train_teacher(config, read_images(config)) is None


def test_who_sees_as_the_teacher_does_has_no_loss() -> None:
    torch.manual_seed(0)
    teacher = TeacherNetwork("test_efficientnet", 3).eval()
    images = normalise(torch.randint(256, (4, 32, 32, 3), dtype=torch.uint8))
    with torch.no_grad():
        features = teacher(images)
        logits = teacher.labels(features)
    same = matching_loss(teacher, images, logits, features, 2.0)
    other = matching_loss(teacher, images, logits + torch.tensor([3.0, 0.0, 0.0]), -features, 2.0)
    assert all(abs(float(value)) < 1e-5 for value in same)
    assert all(float(value) > 0.1 for value in other)
