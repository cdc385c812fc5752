from pathlib import Path

import numpy as np
import pytest
import torch
from gsco.errors import SpecialistError
from gsco.models.specialist.network import create_network
from gsco.models.specialist.reference import ReferenceName, parse_reference_name, read_reference_checkpoint
from PIL import Image


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "pathmnist_224_endToEnd_resnet18_s9930641_best.pth",
            ReferenceName("pathmnist", 224, "endToEnd", "resnet18", 9930641),
        ),
        (
            "fmc_colon_28_linearProbing_vit_base_patch16_224.dino_s115149041_best.pth",
            ReferenceName("fmc_colon", 28, "linearProbing", "vit_base_patch16_224.dino", 115149041),
        ),
        (
            "ham10000_128_endToEnd_eva02_base_patch16_clip_224_s252139603_best.pth",
            ReferenceName("ham10000", 128, "endToEnd", "eva02_base_patch16_clip_224", 252139603),
        ),
    ],
)
def test_names(name: str, expected: ReferenceName) -> None:
    assert parse_reference_name(name) == expected


@pytest.mark.parametrize(
    "name", ["resnet18.pth", "pathmnist_224_endToEnd_resnet18_s1_last.pth", "a_b_c_d_s1_best.pth"]
)
def test_other_names(name: str) -> None:
    with pytest.raises(SpecialistError, match="is not named DATASET_SIZE"):
        parse_reference_name(name)


def test_a_checkpoint_becomes_a_specialist(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create_network("test_resnet", 3)
    path = tmp_path / "PathMNIST_28_endToEnd_test_resnet_s7_best.pth"
    torch.save(network.state_dict(), path)
    specialist = read_reference_checkpoint(path, ("a", "b", "c"))
    card = specialist.card
    assert (card.task, card.name, card.architecture) == ("pathmnist", "test_resnet-s7", "test_resnet")
    # The reference normalises 28 px images and puts zeros around them, up to 224 px.
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (28, 28, 3), dtype=np.uint8))
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (card.transform.mean, card.transform.std))
    batch = torch.nn.functional.pad((pixels - mean) / std, (98,) * 4)[None]
    with torch.inference_mode():
        expected = network(batch).softmax(1).numpy()
    np.testing.assert_allclose(specialist.predict([image]), expected, atol=5e-3)


def test_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "x_224_endToEnd_test_resnet_s1_best.pth"
    torch.save(create_network("test_resnet", 3).state_dict(), path)
    with pytest.raises(SpecialistError, match="does not fit ResNet: of another shape"):
        read_reference_checkpoint(path, ("a", "b"))
    torch.save(create_network("test_resnet", 3), path)
    with pytest.raises(SpecialistError, match="only tensors are accepted"):
        read_reference_checkpoint(path, ("a", "b", "c"))
    alexnet = tmp_path / "x_224_endToEnd_alexnet_s1_best.pth"
    alexnet.write_bytes(path.read_bytes())
    with pytest.raises(SpecialistError, match="torchvision's"):
        read_reference_checkpoint(alexnet, ("a", "b"))
