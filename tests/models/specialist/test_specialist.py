import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gsco.case import TaskKind
from gsco.errors import SpecialistError
from gsco.models.specialist.card import SpecialistCard, Transform, Weights, write_card
from gsco.models.specialist.network import create_network, reset_classifier
from gsco.models.specialist.specialist import TimmSpecialist
from gsco.models.specialist.weights import write_weights
from PIL import Image
from pydantic import ValidationError

from ...memory import peak_above_rest

LABELS = ("a", "b", "c")


def pictures(n: int = 5) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [
        Image.fromarray(random.integers(0, 255, (20 + 3 * k, 30, 3), dtype=np.uint8)).convert(
            "L" if k % 2 else "RGB"
        )
        for k in range(n)
    ]


@pytest.fixture
def specialist() -> TimmSpecialist:
    torch.manual_seed(0)
    return TimmSpecialist.from_timm("test_resnet", LABELS, task="t", transform=Transform(size=32))


def with_card(specialist: TimmSpecialist, **changes: Any) -> TimmSpecialist:
    return TimmSpecialist(specialist.card.model_copy(update=changes), specialist.network)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", "test_convnext"])
def test_one_forward_pass_gives_everything(architecture: str) -> None:
    specialist = TimmSpecialist.from_timm(architecture, LABELS, task="t", transform=Transform(size=64))
    forward = specialist.forward(pictures())
    assert forward.probabilities.shape == (5, 3)
    assert forward.probabilities.dtype == forward.embeddings.dtype == np.float32
    np.testing.assert_allclose(forward.probabilities.sum(1), 1, rtol=1e-5)
    assert forward.embeddings.shape == (5, specialist.card.embedding_width)
    np.testing.assert_allclose(np.linalg.norm(forward.embeddings, axis=1), 1, rtol=1e-5)
    assert forward.decisions == [(LABELS[k],) for k in forward.probabilities.argmax(1)]
    np.testing.assert_array_equal(specialist.predict(pictures()), forward.probabilities)
    np.testing.assert_array_equal(specialist.embed(pictures()), forward.embeddings)


def test_it_computes_what_timm_computes(specialist: TimmSpecialist) -> None:
    image = pictures(1)[0]
    pixels = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    transform = specialist.card.transform
    batch = torch.from_numpy((pixels - transform.mean) / transform.std).float().permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected = specialist.network(batch).softmax(1).numpy()
    np.testing.assert_allclose(specialist.predict([image]), expected, atol=1e-5)


def test_batches_do_not_change_the_result(specialist: TimmSpecialist) -> None:
    np.testing.assert_allclose(
        specialist.predict(pictures(), 2), specialist.predict(pictures(), 64), atol=1e-5
    )
    assert specialist.forward([]).probabilities.shape == (0, 3)


def test_temperature_and_bias(specialist: TimmSpecialist) -> None:
    logits = specialist.logits(specialist.features(pictures()))
    bias = np.array([0.0, 1.0, -1.0])
    calibrated = with_card(specialist, temperature=2.0, bias=tuple(bias)).predict(pictures())
    exponents = np.exp(logits / 2 + bias)
    np.testing.assert_allclose(calibrated, exponents / exponents.sum(1, keepdims=True), rtol=1e-4)


def test_multilabel_uses_thresholds(specialist: TimmSpecialist) -> None:
    logits = specialist.logits(specialist.features(pictures()))
    several = with_card(specialist, kind=TaskKind.MULTILABEL, thresholds=(0.0, 1.0, 0.5))
    forward = several.forward(pictures())
    np.testing.assert_allclose(forward.probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-4)
    for labels, row in zip(forward.decisions, forward.probabilities, strict=True):
        assert labels == (("a", "c") if row[2] >= 0.5 else ("a",))
    unset = with_card(specialist, kind=TaskKind.MULTILABEL).forward(pictures())
    assert unset.decisions == [
        tuple(label for label, p in zip(LABELS, row, strict=True) if p >= 0.5) for row in unset.probabilities
    ]


def test_opinion(specialist: TimmSpecialist) -> None:
    rated = with_card(specialist, reliability=0.75)
    forward = rated.forward(pictures())
    opinion = rated.opinion(forward, 3)
    assert opinion.labels == forward.decisions[3]
    assert opinion.probabilities == {
        label: float(p) for label, p in zip(LABELS, forward.probabilities[3], strict=True)
    }
    assert (opinion.specialist, opinion.architecture, opinion.reliability) == (
        "test_resnet",
        "test_resnet",
        0.75,
    )
    assert opinion.version == rated.card.weights.sha256[:12]


def test_specialists_with_one_trunk_share_its_features(specialist: TimmSpecialist) -> None:
    torch.manual_seed(0)
    twin = TimmSpecialist.from_timm("test_resnet", LABELS, task="other", transform=Transform(size=32))
    reset_classifier(twin.network)
    assert twin.trunk_key == specialist.trunk_key
    shared = twin.head(specialist.features(pictures()))
    np.testing.assert_array_equal(shared.probabilities, twin.predict(pictures()))
    np.testing.assert_allclose(shared.probabilities, 1 / 3, rtol=1e-6)
    assert with_card(specialist, transform=Transform(size=40)).trunk_key != specialist.trunk_key


def test_loading_gives_what_was_trained(trained: Path) -> None:
    specialist = TimmSpecialist.load(trained)
    assert specialist.card.labels == ("blue", "green", "red")
    again = TimmSpecialist.load(trained)
    np.testing.assert_array_equal(specialist.predict(pictures()), again.predict(pictures()))


def damage_weights(folder: Path) -> None:
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\1\2\3")


def drop_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def drop_card(folder: Path) -> None:
    (folder / "card.json").unlink()


def change_card(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        (folder / "card.json").write_text(json.dumps(card | changes), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_weights, "damaged or was replaced"),
        (drop_weights, "weights of 'tiny' cannot be read"),
        (drop_card, r"'tiny' has no card\.json"),
        (change_card(labels=["a", "b"]), "does not fit"),
        (change_card(architecture="test_vit"), "does not fit"),
        (change_card(architecture="gone"), "no architecture 'gone'"),
        (change_card(surprise=1), "card of 'tiny' cannot be read"),
        (change_card(weights={"file": "../x", "sha256": "0" * 64}), "outside its folder"),
    ],
)
def test_broken_specialists(
    trained: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "tiny"))
    damage(folder)
    with pytest.raises(SpecialistError, match=message):
        TimmSpecialist.load(folder)


@pytest.mark.attack
@pytest.mark.parametrize(
    "architecture",
    [
        "hf-hub:timm/resnet18.a1_in1k",
        "hf_hub:timm/resnet18.a1_in1k",
        "local-dir:/etc",
        "timm/resnet18.a1_in1k",
        "https://example.org/resnet18",
        "file:///etc/passwd",
        "../../resnet18",
        "/etc/passwd",
        "resnet18:x",
        "resnet18\n",
        "",
    ],
)
def test_a_card_names_nothing_but_timms_registry(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    def connect(self: socket.socket, address: object) -> None:
        raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("resolves a name"))
    folder = Path(shutil.copytree(trained, tmp_path / "tiny"))
    change_card(architecture=architecture)(folder)
    with pytest.raises(SpecialistError, match="not in timm's registry"):
        TimmSpecialist.load(folder)


@pytest.mark.attack
@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "vit_giant_patch14_clip_224"},
        {"architecture": "test_vit", "transform": Transform(size=4096).model_dump(mode="json")},
        {"labels": [str(number) for number in range(300_000)]},
    ],
    ids=["giant", "wide", "labels"],
)
def test_a_network_that_the_weights_do_not_fit_allocates_nothing(
    trained: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "tiny"))
    change_card(**changes)(folder)
    TimmSpecialist.load(trained)

    def load() -> None:
        with pytest.raises(SpecialistError, match="does not fit"):
            TimmSpecialist.load(folder)

    assert peak_above_rest(load) < 250 * 2**20


def test_a_network_with_derived_tensors_is_built_too(tmp_path: Path) -> None:
    specialist = TimmSpecialist.from_timm(
        "swin_s3_tiny_224", ("x", "y"), task="t", name="swin", transform=Transform(size=224)
    )
    folder = tmp_path / "swin"
    folder.mkdir()
    weights = write_weights(folder, specialist.network.state_dict(), "float32")
    write_card(folder, specialist.card.model_copy(update={"weights": weights}))
    again = TimmSpecialist.load(folder)
    image = [Image.new("RGB", (60, 60), (10, 200, 90))]
    np.testing.assert_allclose(again.embed(image), specialist.embed(image), atol=1e-5)


def test_from_timm_reads_a_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = create_network("test_vit", 2, image_size=48)
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    specialist = TimmSpecialist.from_timm(
        "test_vit",
        ("no", "yes"),
        task="t",
        name="mine",
        checkpoint=tmp_path / "mine.pth",
        transform=Transform(size=48),
    )
    assert (specialist.card.name, specialist.card.encoder, specialist.card.embedding_width) == (
        "mine",
        "t/mine",
        64,
    )
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(specialist.network.state_dict()[name], tensor)
    with pytest.raises(SpecialistError, match=r"mine\.pth does not fit"):
        TimmSpecialist.from_timm("test_vit", LABELS, task="t", checkpoint=tmp_path / "mine.pth")


def test_from_timm_takes_timms_own_transform() -> None:
    network: Any = create_network("test_resnet", 2)
    transform = TimmSpecialist.from_timm("test_resnet", ("x", "y"), task="t").card.transform
    assert transform.size == network.pretrained_cfg["input_size"][-1]
    assert transform.mean == tuple(network.pretrained_cfg["mean"])


def test_labels_must_match_the_outputs(specialist: TimmSpecialist) -> None:
    with pytest.raises(SpecialistError, match="2 labels but another number of outputs"):
        with_card(specialist, labels=("a", "b"))


def test_transform_with_a_canvas_pads_with_the_mean() -> None:
    transform = Transform(size=28, canvas=64, mean=(0.2, 0.4, 0.6))
    pixels = transform.resize(Image.new("RGB", (10, 10), (255, 0, 0)))
    assert transform.side == 64
    assert pixels.shape == (64, 64, 3)
    assert (pixels[18:46, 18:46] == (255, 0, 0)).all()
    assert (pixels[0, 0] == (51, 102, 153)).all()
    assert (pixels == (255, 0, 0)).all(2).sum() == 28 * 28


def test_cards_refuse_nonsense() -> None:
    weights = Weights(sha256="0" * 64)
    for wrong in ({"name": "../x"}, {"task": "A b"}, {"temperature": 0}, {"transform": {"size": 1}}):
        with pytest.raises(ValidationError):
            SpecialistCard.model_validate(
                {"name": "n", "task": "t", "architecture": "x", "weights": weights.model_dump(), **wrong}
            )
