from pathlib import Path

import numpy as np
import pytest
from gsco.errors import ConfigurationError
from gsco.models.dataset import read_dataset
from gsco.models.generalist.training.config import GeneralistTraining
from gsco.models.generalist.training.cross_fitting import PanelEvidence, draw_bank, fold_datasets
from gsco.models.generalist.training.pixels import Images, read_images
from gsco.models.specialist.recipe import TrainingConfig
from gsco.models.specialist.training import train_specialist

from .toys import LABELS, make_data, toy_config

EVIDENCE = {"folds": 3, "bank": 4, "neighbours": [2, 3]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def panel(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("panel")
    config = TrainingConfig(
        data=data / "toy",
        task="toy",
        name="small",
        architecture="test_resnet",
        image_size=16,
        epochs=1,
        batch_size=8,
        precision="fp32",
        augmentation="none",
        storage="float32",
    )
    train_specialist(config, folder, quiet=True)
    return folder


@pytest.fixture(scope="module")
def config(data: Path, tmp_path_factory: pytest.TempPathFactory) -> GeneralistTraining:
    return toy_config(data, tmp_path_factory.mktemp("home"), evidence=EVIDENCE)


@pytest.fixture(scope="module")
def images(config: GeneralistTraining) -> Images:
    return read_images(config)["train"][0]


def test_no_group_is_judged_by_a_twin_that_knows_it(data: Path) -> None:
    dataset = read_dataset(data / "toy")
    folds = fold_datasets(dataset, 3, seed=0)
    held = [item.path for fold in folds for item in fold.split("test")]
    assert sorted(held) == sorted(item.path for item in dataset.split("train"))
    for fold in folds:
        known = {item.group for item in fold.split("train")}
        assert not known & {item.group for item in fold.split("test")}
        assert fold.split("val") == dataset.split("val")
        fold.check_trainable()
    assert len({fold.sha256 for fold in folds} | {dataset.sha256}) == 4
    with pytest.raises(ConfigurationError, match="groups"):
        fold_datasets(dataset, 100, seed=0)


def test_every_image_is_judged_once_and_twins_are_recognised(
    config: GeneralistTraining, panel: Path, images: Images
) -> None:
    made = PanelEvidence(config, panel, images)
    found = made.of("train")
    assert found.members == ("small",)
    assert found.probabilities.shape == (1, len(images), 2)
    assert np.allclose(found.probabilities.sum(2), 1, atol=1e-4)
    assert found.neighbours.shape == (len(images), 3)
    assert (found.similarities[:, 0] > 0).all()
    twins = sorted((config.work / "twins").glob("fold-*/toy/small/weights.safetensors"))
    assert len(twins) == 3
    before = [twin.stat().st_mtime_ns for twin in twins]
    assert np.array_equal(made.of("train").probabilities, found.probabilities)
    assert [twin.stat().st_mtime_ns for twin in twins] == before


def test_validation_images_are_judged_by_the_panel_itself(
    config: GeneralistTraining, panel: Path, images: Images
) -> None:
    found = PanelEvidence(config, panel, images).of("val")
    assert found.probabilities.shape == (1, 8, 2)


def test_what_an_earlier_run_kept_is_read_again(
    config: GeneralistTraining, panel: Path, images: Images, tmp_path: Path
) -> None:
    first = PanelEvidence(config, panel, images)
    computed = first.kept(images, "train")
    kept = list((config.work / "evidence").glob("toy-*-train.npz"))
    assert len(kept) == 1 and first.version in kept[0].name
    np.testing.assert_allclose(computed.probabilities, first.of("train").probabilities, atol=1e-3)
    evidence = config.evidence.model_copy(update={"known": config.work / "evidence"})
    later = config.model_copy(update={"work": tmp_path, "evidence": evidence})
    assert config.fingerprint("joint") == later.fingerprint("joint")
    again = PanelEvidence(later, panel, images).kept(images, "train")
    np.testing.assert_array_equal(again.neighbours, computed.neighbours)
    assert not (tmp_path / "twins").exists() and not (tmp_path / "evidence").exists()
    other = config.evidence.model_copy(update={"known": config.work / "evidence", "bank": 3})
    assert (
        PanelEvidence(config.model_copy(update={"evidence": other}), panel, images).version != first.version
    )


def test_a_missing_panel_is_an_error(config: GeneralistTraining, images: Images, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no specialists"):
        PanelEvidence(config, tmp_path, images).of("val")


def test_the_bank_holds_so_many_of_each_label(data: Path) -> None:
    drawn = draw_bank(read_dataset(data / "toy").split("train"), 4, seed=0)
    assert {label: sum(item.labels == (label,) for item in drawn) for label in LABELS} == {
        "bright": 4,
        "dark": 4,
    }
