from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from gsco.models.generalist.training import views
from gsco.models.generalist.training.config import Vision
from gsco.models.generalist.training.pixels import Images, read_images
from gsco.models.generalist.training.views import Views
from torch.nn import functional

from .toys import toy_config


@pytest.fixture
def images(data: Path, tmp_path: Path) -> dict[str, list[Images]]:
    return read_images(toy_config(data, tmp_path))


def drawn(data: Path, home: Path, training: Sequence[Images], **given: float) -> views.ViewBatch:
    config = toy_config(data, home)
    settings = Vision.model_validate({"batch": 24, "augmentation": 0.0, **given})
    return Views(config, training, settings, channel=1).draw(3)


def test_the_same_step_draws_the_same_views(
    data: Path, tmp_path: Path, images: dict[str, list[Images]]
) -> None:
    one, two = (drawn(data, tmp_path, images["train"], augmentation=1.0, mixed=0.5) for _ in range(2))
    assert torch.equal(one.images, two.images) and torch.equal(one.targets, two.targets)


def test_mixed_images_lie_between_two_of_their_source(
    data: Path, tmp_path: Path, images: dict[str, list[Images]]
) -> None:
    plain = drawn(data, tmp_path, images["train"])
    mixed = drawn(data, tmp_path, images["train"], mixed=1.0)
    assert (plain.shares == 1).all() and (mixed.shares < 1).all()
    assert torch.equal(plain.targets, mixed.targets)
    crossed = mixed.targets != mixed.others
    assert crossed.any()
    brightness = mixed.images.mean((1, 2, 3))
    low, high = plain.images.mean((1, 2, 3)).aminmax()
    assert (brightness >= low - 1e-4).all() and (brightness <= high + 1e-4).all()
    # A mixture of bright (0) and dark (1) is as bright as its share says.
    shares = torch.where(mixed.targets == 0, mixed.shares, 1 - mixed.shares)[crossed]
    assert np.corrcoef(brightness[crossed].numpy(), shares.numpy())[0, 1] > 0.9


def test_the_loss_of_a_mixture_is_that_of_both_labels() -> None:
    logits, share = torch.randn(5, 3), torch.rand(5)
    one, other = torch.randint(3, (5,)), torch.randint(3, (5,))
    found = views.ViewBatch(torch.zeros(5), one, other, share).loss(logits, 0.0)
    soft = share[:, None] * functional.one_hot(one, 3) + (1 - share)[:, None] * functional.one_hot(other, 3)
    torch.testing.assert_close(found, functional.cross_entropy(logits, soft))
