import pytest
import timm
import torch
from gsco.errors import SpecialistError
from gsco.models.specialist.card import Transform
from gsco.models.specialist.network import (
    check_split,
    classifier_of,
    create_network,
    head,
    load_state,
    normalise,
    reset_classifier,
    trunk,
    trunk_hash,
)
from timm.models.vgg import VGG


@pytest.mark.parametrize(
    "architecture",
    ["test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_byobnet", "test_nfnet"],
)
def test_trunk_and_head_are_the_network(architecture: str) -> None:
    network = create_network(architecture, 3, image_size=64)
    torch.manual_seed(0)
    torch.nn.init.normal_(classifier_of(network)[1].weight)
    batch = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        features = trunk(network, batch)
        assert features.shape == (2, check_split(network, 64))
        torch.testing.assert_close(head(network, features), network(batch), rtol=1e-4, atol=1e-4)


def test_a_vgg_with_its_convolutional_head() -> None:
    network = VGG([4, "M", 8, "M", 8, "M", 8, "M", 8, "M"], num_classes=2).eval()
    assert classifier_of(network)[0] == "head.fc"
    assert check_split(network, 64) == 4096


@pytest.mark.parametrize(
    ("architecture", "message"),
    [("alexnet", "torchvision's, not timm's"), ("no_such_net", "no architecture 'no_such_net'")],
)
def test_unknown_architectures(architecture: str, message: str) -> None:
    with pytest.raises(SpecialistError, match=message):
        create_network(architecture, 2)


def test_an_architecture_without_a_single_classifier_is_refused() -> None:
    with pytest.raises(SpecialistError, match="no single linear classifier"):
        classifier_of(timm.create_model("deit_tiny_distilled_patch16_224"))


def test_reset_classifier_gives_equal_logits() -> None:
    network = create_network("test_vit", 5, image_size=32)
    reset_classifier(network)
    with torch.inference_mode():
        assert torch.equal(network(torch.randn(1, 3, 32, 32)), torch.zeros(1, 5))


def test_normalise_is_mean_and_deviation() -> None:
    transform = Transform(size=8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
    pixels = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    values = normalise(pixels, transform)[0, :, 0, 0]
    torch.testing.assert_close(values, torch.tensor([2.5, 2.4, 1.4]))


def test_load_state_says_what_does_not_fit() -> None:
    network = create_network("test_resnet", 3)
    state = dict(create_network("test_resnet", 4).state_dict())
    with pytest.raises(SpecialistError, match=r"this file does not fit ResNet: of another shape \['fc.bias'"):
        load_state(network, state, source="this file")
    load_state(network, state, source="this file", skip=["fc"])
    torch.testing.assert_close(network.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
    with pytest.raises(SpecialistError, match=r"missing \['conv1.0.weight'\]; unknown \['other'\]"):
        renamed = {"other" if name == "conv1.0.weight" else name: tensor for name, tensor in state.items()}
        load_state(network, renamed, source="this file", skip=["fc"])


def test_trunk_hash_ignores_the_head_only() -> None:
    torch.manual_seed(0)
    network, transform = create_network("test_resnet", 3), Transform(size=32)
    key = trunk_hash(network, transform)
    reset_classifier(network)
    assert trunk_hash(network, transform) == key
    assert trunk_hash(network, Transform(size=64)) != key
    with torch.no_grad():
        network.get_parameter("conv1.0.weight")[0, 0, 0, 0] += 1
    assert trunk_hash(network, transform) != key
