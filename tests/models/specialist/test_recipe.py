from pathlib import Path

import pytest
from gsco.errors import ConfigurationError
from gsco.models.specialist.augmentation import Augmentation
from gsco.models.specialist.recipe import TrainingConfig
from pydantic import ValidationError


def config(**values: object) -> TrainingConfig:
    return TrainingConfig.model_validate({"data": "data", "task": "task", "name": "name", **values})


def test_the_reference_recipe() -> None:
    reference = config(preset="reference", epochs=7)
    assert (reference.learning_rate, reference.batch_size, reference.patience) == (1e-4, 64, 5)
    assert (reference.amount, reference.class_weighting, reference.decision) == (
        Augmentation(),
        "none",
        "argmax",
    )
    assert reference.epochs == 7
    assert config(preset="reference").epochs == 100


def test_toml(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(
        'data = "images"\ntask = "t"\nname = "n"\ninit = "backbone"\n'
        'trainable = ["blocks.6.*"]\n[augmentation]\nflip = 0.5\n',
        encoding="utf-8",
    )
    read = TrainingConfig.from_toml(file, epochs=3)
    assert read.data == tmp_path / "images"
    assert read.trainable == ("blocks.6.*",)
    assert read.amount == Augmentation(flip=0.5)
    assert read.epochs == 3
    for wrong in ("epoch = 3", "data = ", 'data = "d"\ntask = "T!"\nname = "n"'):
        file.write_text(wrong, encoding="utf-8")
        with pytest.raises(ConfigurationError, match=r"recipe\.toml"):
            TrainingConfig.from_toml(file)


def test_a_frozen_network_from_scratch_is_senseless() -> None:
    with pytest.raises(ValidationError, match="needs pretrained weights"):
        config(trainable="head")


def test_the_fingerprint_follows_the_recipe_not_the_place() -> None:
    original = config().fingerprint("data")
    assert (
        config(data="elsewhere", device="cuda", memory_mib=1, evaluate_test=True).fingerprint("data")
        == original
    )
    assert config(epochs=31).fingerprint("data") != original
    assert config().fingerprint("other data") != original
    # Fields at their defaults are left out, so that new fields do not disturb old trainings.
    assert config(epochs=TrainingConfig.model_fields["epochs"].default).fingerprint("data") == original


def test_the_record_holds_no_folder_of_this_machine() -> None:
    record = config(data="/home/somebody/data", init="/home/somebody/weights.pth").record()
    assert "somebody" not in str(record)
    assert record["init"] == "weights.pth"
