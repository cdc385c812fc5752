from pathlib import Path

import torch
from gsco.models.generalist.training.pixels import augment, read_images

from .toys import COUNTS, toy_config


def test_images_are_read_once_and_test_images_never(data: Path, tmp_path: Path) -> None:
    config = toy_config(data, tmp_path)
    images = read_images(config)  # a test image would fail: it is none
    assert {split: len(found[0]) for split, found in images.items()} == {"train": 24, "val": 8}
    assert images["train"][0].pixels.shape == (24, 18, 18, 3)
    assert images["val"][0].pixels.shape == (8, 16, 16, 3)
    for one in (images["train"][0], images["val"][0]):
        brightness = one.pixels.mean(axis=(1, 2, 3))
        assert ((brightness > 120) == (one.targets == one.labels.index("bright"))).all()
    kept = sorted((tmp_path / "work" / "pixels").iterdir())
    times = [path.stat().st_mtime_ns for path in kept]
    read_images(config)
    assert [path.stat().st_mtime_ns for path in kept] == times
    assert sum(COUNTS.values()) > 32


def test_no_augmentation_leaves_the_image() -> None:
    images = torch.rand(2, 3, 18, 18)
    plain = augment(images, 18, torch.Generator(), 0.0)
    torch.testing.assert_close(plain, images, atol=1e-5, rtol=0)


def test_augmentation_changes_every_image_and_repeats_itself() -> None:
    images = torch.rand(6, 3, 18, 18)
    one, two = (augment(images, 16, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == (6, 3, 16, 16)
    assert not torch.equal(one, augment(images, 16, torch.Generator().manual_seed(6)))


def test_upright_images_are_not_turned_over() -> None:
    # Left half dark and right half bright above, all dark below.
    images = torch.zeros(64, 3, 18, 18)
    images[:, :, :9] = 1.0
    upright = torch.arange(64) < 32
    found = augment(images, 16, torch.Generator().manual_seed(0), 0.5, upright)
    on_top = found[:, :, :4].mean((1, 2, 3)) > found[:, :, -4:].mean((1, 2, 3))
    assert on_top[:32].all()
    assert 4 < int(on_top[32:].sum()) < 28
