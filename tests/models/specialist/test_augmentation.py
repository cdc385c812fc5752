import pytest
import torch
from gsco.models.specialist.augmentation import LEVELS, Augmentation, augment, mix


def batch(n: int = 4, size: int = 16) -> torch.Tensor:
    return torch.randint(
        0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(5)
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_none_changes_nothing() -> None:
    assert torch.equal(augment(batch(), LEVELS["none"], generator()), batch().float())


@pytest.mark.parametrize("level", ["light", "strong"])
def test_same_seed_same_images(level: str) -> None:
    first = augment(batch(), LEVELS[level], generator(1))
    assert torch.equal(first, augment(batch(), LEVELS[level], generator(1)))
    assert not torch.equal(first, augment(batch(), LEVELS[level], generator(2)))
    assert not torch.equal(first, batch().float())
    assert first.min() >= 0
    assert first.max() <= 255


@pytest.mark.parametrize(("field", "axis"), [("flip", 3), ("vertical_flip", 2)])
def test_certain_flips(field: str, axis: int) -> None:
    flipped = augment(batch(), Augmentation.model_validate({field: 1.0}), generator())
    torch.testing.assert_close(flipped, batch().float().flip(axis), rtol=0, atol=0.1)


def test_zoom_and_shift_stay_within_their_limits() -> None:
    pixels = torch.zeros(64, 3, 33, 33, dtype=torch.uint8)
    pixels[:, :, 16, 16] = 255
    moved = augment(pixels, Augmentation(shift=0.25), generator())
    rows, columns = torch.meshgrid(torch.arange(33.0), torch.arange(33.0), indexing="ij")
    mass = moved.mean(1)
    centre = torch.stack([(mass * axis).sum((1, 2)) / mass.sum((1, 2)) for axis in (rows, columns)])
    assert (centre - 16).abs().max() <= 0.25 * 33 + 0.5
    assert (centre - 16).abs().max() > 4


def test_brightness_stays_within_its_limit() -> None:
    grey = torch.full((64, 3, 4, 4), 128, dtype=torch.uint8)
    change = augment(grey, Augmentation(brightness=0.2), generator()) - 128
    assert 0.15 * 255 < change.abs().max() <= 0.2 * 255
    assert torch.equal(change[:, 0, 0, 0], change[:, 2, 3, 3])


def test_erasing_covers_at_most_a_third_of_each_side() -> None:
    white = torch.full((64, 3, 30, 30), 255, dtype=torch.uint8)
    covered = augment(white, Augmentation(erase=1.0), generator()) == 127.5
    assert covered.any((1, 2, 3)).float().mean() > 0.9
    assert covered[:, 0].any(2).sum(1).max() <= 11


def test_mix_blends_images_and_targets_alike() -> None:
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    blended, targets = mix(images, torch.eye(4), 1.0, generator())
    torch.testing.assert_close(blended[:, 0, 0, 0], targets @ torch.arange(4.0))
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    assert (targets > 0).sum() > 4
