import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gsco.errors import ConfigurationError, SpecialistError
from gsco.models.dataset import read_dataset
from gsco.models.specialist.assessment import run_split
from gsco.models.specialist.backbone import save_backbone
from gsco.models.specialist.card import SpecialistCard, Transform, read_card
from gsco.models.specialist.device import uses_bf16
from gsco.models.specialist.network import create_network
from gsco.models.specialist.recipe import TrainingConfig
from gsco.models.specialist.specialist import TimmSpecialist
from gsco.models.specialist.training import train_specialist
from PIL import Image
from safetensors.torch import load_file

Recipe = Callable[..., TrainingConfig]

KILLED_WHILE_SAVING = """
import os, signal, sys, torch
from pathlib import Path
from gsco.models.specialist.recipe import TrainingConfig
from gsco.models.specialist.training import train_specialist

torch.set_num_threads(1)
saved = []

replace = Path.replace

def replace_or_die(self, target):
    if Path(target).name == "checkpoint.pt":
        saved.append(self)
    if len(saved) == 3:
        os.truncate(self, 1000)
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

Path.replace = replace_or_die
train_specialist(TrainingConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]), quiet=True)
"""


def same_weights(one: Path, other: Path) -> bool:
    return (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared backbone; its random convolutions see colours well enough."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bases")
    state = create_network("test_resnet", 2).state_dict()
    save_backbone(
        folder / "small", name="small", architecture="test_resnet", state=state, transform=Transform(size=32)
    )
    return folder


def test_it_learns_and_the_card_tells_how(trained: Path, colours: Path) -> None:
    card = read_card(trained, SpecialistCard)
    assert trained.parts[-2:] == ("colours", "tiny")
    assert card.metrics["val"]["balanced_accuracy"].value > 0.7
    assert card.reliability == card.metrics["val"]["balanced_accuracy"].value
    assert card.metrics["test"].keys() == {"accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece"}
    assert card.data is not None
    assert card.data.name == "colours"
    assert card.data.sha256 == read_dataset(colours).sha256
    assert card.data.counts["train"] == {"blue": 12, "green": 12, "red": 12}
    assert (card.command, card.seed, card.encoder, card.embedding_width) == (
        "train it",
        0,
        "colours/tiny",
        96,
    )
    assert card.training["learning_rate"] == 3e-3
    assert str(colours) not in (trained / "card.json").read_text(encoding="utf-8")
    assert {file.name for file in trained.iterdir()} == {"card.json", "weights.safetensors"}
    assert not list((trained.parents[1] / ".training").iterdir())
    assert TimmSpecialist.load(trained).predict([Image.new("RGB", (50, 50), (200, 50, 40))]).shape == (1, 3)


def test_the_metrics_are_those_of_the_stored_weights(trained: Path, colours: Path) -> None:
    specialist = TimmSpecialist.load(trained)
    items = read_dataset(colours).split("test")
    images = [Image.open(item.path) for item in items]
    decided = specialist.forward(images).decisions
    accuracy = sum(labels == item.labels for labels, item in zip(decided, items, strict=True)) / len(items)
    assert accuracy == pytest.approx(specialist.card.metrics["test"]["accuracy"].value, abs=1e-3)


def test_same_seed_same_weights(trained: Path, recipe: Recipe, tmp_path: Path) -> None:
    torch.manual_seed(99)
    assert same_weights(trained, train_specialist(recipe(), tmp_path, quiet=True))
    other = train_specialist(recipe(seed=1, name="other"), tmp_path, quiet=True)
    assert not same_weights(trained, other)


def test_the_callers_random_state_is_left_alone(recipe: Recipe, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train_specialist(recipe(epochs=1), tmp_path, quiet=True)
    assert torch.equal(torch.rand(1), expected)


def test_killed_and_resumed_equals_uninterrupted(recipe: Recipe, tmp_path: Path) -> None:
    config = recipe(epochs=5, ema=0.9, mixup=0.4, augmentation="strong")
    command = [sys.executable, "-c", KILLED_WHILE_SAVING, config.model_dump_json(), str(tmp_path / "killed")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    work = tmp_path / "killed" / ".training" / "colours--tiny"
    assert torch.load(work / "checkpoint.pt", weights_only=True)["progress"]["epoch"] == 2
    assert len(list(work.iterdir())) == 2, "the torn third checkpoint should lie beside the second"
    assert not (tmp_path / "killed" / "colours").exists()
    resumed = train_specialist(config, tmp_path / "killed", quiet=True)
    whole = train_specialist(config, tmp_path / "whole", quiet=True)
    assert same_weights(resumed, whole)
    assert read_card(resumed, SpecialistCard) == read_card(whole, SpecialistCard)
    assert not list((tmp_path / "killed" / ".training").iterdir())


def test_a_finished_training_is_not_repeated(recipe: Recipe, tmp_path: Path) -> None:
    folder = train_specialist(recipe(epochs=1), tmp_path, quiet=True)
    before = (folder / "card.json").stat().st_mtime_ns
    assert train_specialist(recipe(epochs=1), tmp_path, quiet=True) == folder
    assert (folder / "card.json").stat().st_mtime_ns == before
    with pytest.raises(SpecialistError, match=r"another configuration or other data.*--restart"):
        train_specialist(recipe(epochs=2), tmp_path, quiet=True)
    train_specialist(recipe(epochs=2), tmp_path, restart=True, quiet=True)
    assert read_card(folder, SpecialistCard).training["epochs"] == 2


def test_the_checkpoint_of_another_configuration_is_refused(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsco.models.specialist.training._publish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_specialist(recipe(epochs=1), tmp_path, quiet=True)
    monkeypatch.undo()
    checkpoint = tmp_path / ".training" / "colours--tiny" / "checkpoint.pt"
    with pytest.raises(SpecialistError, match=r"unfinished training.*--restart"):
        train_specialist(recipe(epochs=2), tmp_path, quiet=True)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(SpecialistError, match=r"cannot be read.*--restart"):
        train_specialist(recipe(epochs=1), tmp_path, quiet=True)
    assert train_specialist(recipe(epochs=1), tmp_path, restart=True, quiet=True).is_dir()


def test_early_stopping_keeps_the_best_epoch(recipe: Recipe, tmp_path: Path) -> None:
    # A rate that destroys the network at once: no later epoch is better than the first.
    folder = train_specialist(recipe(epochs=20, patience=2, learning_rate=3.0), tmp_path, quiet=True)
    history = read_card(folder, SpecialistCard).history
    assert history["epochs"] == history["best_epoch"] + 2 < 20  # pyright: ignore[reportOperatorIssue]


def test_a_diverging_training_says_so(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(SpecialistError, match="not finite; lower learning_rate"):
        train_specialist(recipe(learning_rate=1e30), tmp_path, quiet=True)
    assert not (tmp_path / "colours").exists()


def test_a_linear_probe_is_an_overlay_on_its_backbone(recipe: Recipe, bases: Path, tmp_path: Path) -> None:
    config = recipe(init="small", trainable="head", name="probe")
    folder = train_specialist(config, tmp_path, bases=bases, quiet=True)
    card = read_card(folder, SpecialistCard)
    assert load_file(folder / "weights.safetensors").keys() == {"fc.weight", "fc.bias"}
    assert card.base is not None
    assert (card.base.name, card.encoder) == ("small", "small")
    assert card.reliability is not None
    assert card.reliability > 0.8
    specialist = TimmSpecialist.load(folder, bases=bases)
    sized = train_specialist(
        recipe(init="small", trainable="head", name="sized", image_size=48), tmp_path, bases=bases, quiet=True
    )
    assert read_card(sized, SpecialistCard).encoder == "small@48"
    assert specialist.trunk_key != TimmSpecialist.load(sized, bases=bases).trunk_key
    with pytest.raises(SpecialistError, match="no backbone 'small'"):
        TimmSpecialist.load(folder, bases=tmp_path)


def test_a_probe_goes_on_from_its_cached_embeddings(
    recipe: Recipe, bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe(init="small", trainable="head")
    monkeypatch.setattr("gsco.models.specialist.training.fit_probe", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_specialist(config, tmp_path, bases=bases, quiet=True)
    monkeypatch.undo()
    chunks = sorted(tmp_path.rglob("*.npy"))
    assert [chunk.parent.name for chunk in chunks] == ["train", "val"]
    monkeypatch.setattr("gsco.models.specialist.probe._embed", lambda *_: 1 / 0)
    train_specialist(config, tmp_path, bases=bases, quiet=True)
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_partly_trained_networks_store_only_what_changed(
    recipe: Recipe, bases: Path, tmp_path: Path, storage: str
) -> None:
    config = recipe(init="small", trainable=["layer4.*"], storage=storage)
    folder = train_specialist(config, tmp_path, bases=bases, quiet=True)
    stored = {name.split("::")[0] for name in load_file(folder / "weights.safetensors")}
    assert stored
    assert all(name.startswith(("layer4.", "fc.")) for name in stored)
    specialist = TimmSpecialist.load(folder, bases=bases)
    assert specialist.card.encoder == "colours/tiny"
    outputs = run_split(specialist, read_dataset(config.data).split("val"))
    found = specialist.head(
        specialist.features([Image.open(item.path) for item in read_dataset(config.data).split("val")])
    )
    accuracy = (found.probabilities.argmax(1) == outputs.truth).mean()
    assert accuracy == pytest.approx(specialist.card.metrics["val"]["accuracy"].value, abs=1e-3)


def test_a_pattern_without_a_parameter_is_an_error(recipe: Recipe, bases: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecialistError, match=r"\['block.6'\] match no parameter"):
        train_specialist(recipe(init="small", trainable=["block.6"]), tmp_path, bases=bases, quiet=True)


def test_multilabel(recipe: Recipe, mixtures: Path, bases: Path, tmp_path: Path) -> None:
    config = recipe(data=mixtures, task="mixtures", epochs=6, batch_size=16)
    specialist = TimmSpecialist.load(train_specialist(config, tmp_path, quiet=True))
    card = specialist.card
    assert card.kind == "multilabel_diagnosis"
    assert len(card.thresholds) == 3
    assert card.reliability is not None
    assert card.reliability > 0.8
    probe = recipe(data=mixtures, task="mixtures", name="probe", init="small", trainable="head")
    assert (
        read_card(train_specialist(probe, tmp_path, bases=bases, quiet=True), SpecialistCard)
        .metrics["val"]["auroc"]
        .value
        > 0.8
    )


def test_images_that_do_not_fit_into_memory_give_the_same(
    trained: Path, recipe: Recipe, tmp_path: Path
) -> None:
    assert same_weights(trained, train_specialist(recipe(memory_mib=0), tmp_path, quiet=True))


def test_splits_of_ones_own(recipe: Recipe, colours: Path, tmp_path: Path) -> None:
    dataset = read_dataset(colours)
    fold = replace(
        dataset, items=tuple(item for item in dataset.items if item.split != "test"), sha256="f" * 64
    )
    card = read_card(train_specialist(recipe(epochs=1), tmp_path, dataset=fold, quiet=True), SpecialistCard)
    assert card.data is not None
    assert (card.data.sha256, card.data.counts["test"]) == ("f" * 64, {})


def test_what_cannot_be_trained(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no data set"):
        train_specialist(recipe(data=tmp_path / "nothing"), tmp_path, quiet=True)
    with pytest.raises(SpecialistError, match=r"initial weights .*none\.pth cannot be read"):
        train_specialist(recipe(init=str(tmp_path / "none.pth")), tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())


def test_an_unreadable_image_is_named(recipe: Recipe, colours: Path, tmp_path: Path) -> None:
    dataset = read_dataset(colours)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    items = (replace(dataset.items[0], path=broken), *dataset.items[1:])
    with pytest.raises(SpecialistError, match=r"broken\.png of the data set"):
        train_specialist(recipe(), tmp_path, dataset=replace(dataset, items=items), quiet=True)


def test_every_epoch_is_a_line_where_there_is_no_terminal(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_specialist(recipe(epochs=2, precision="bf16"), tmp_path)
    output = capsys.readouterr()
    assert output.out == ""
    lines = [line for line in output.err.splitlines() if line.startswith("colours/tiny epoch")]
    assert [line.split(":")[0] for line in lines] == ["colours/tiny epoch 1/2", "colours/tiny epoch 2/2"]
    assert "val balanced accuracy" in lines[0]


def test_bf16_is_not_chosen_for_networks_that_it_slows_down() -> None:
    cpu = torch.device("cpu")
    depthwise = create_network("mobilenetv3_small_050", 2)
    assert not uses_bf16("auto", cpu, depthwise)
    assert not uses_bf16("auto", cpu, create_network("test_resnet", 2))
    assert uses_bf16("bf16", cpu, depthwise)
    assert not uses_bf16("fp32", cpu, create_network("resnet10t", 2))
