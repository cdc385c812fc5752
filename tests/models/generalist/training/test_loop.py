import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from gsco.errors import ConfigurationError
from gsco.models.generalist.training.loop import train_generalist
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from .toys import toy_config

KILLED = """
import sys, torch
from pathlib import Path
sys.path.insert(0, {root!r})
torch.set_num_threads(1)
from gsco.models.generalist.training.loop import train_generalist
import importlib.util
spec = importlib.util.spec_from_file_location("toys", {toys!r})
toys = importlib.util.module_from_spec(spec); spec.loader.exec_module(toys)
config = toys.toy_config(Path({data!r}), Path({home!r}), checkpoint_every=1e-9)
train_generalist(config)
"""


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("whole")
    train_generalist(toy_config(data, home))
    return home


def test_the_model_is_finished_and_loads(whole: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(whole / "out", dtype=torch.float32)
    AutoProcessor.from_pretrained(whole / "out")
    assert model.model.language_model.layers[0].mlp.up_proj.weight.abs().sum() > 0
    card = json.loads((whole / "out" / "card.json").read_text())
    assert card["data"][0]["images"] == {"train": 24, "val": 8}
    assert set(card["validation_accuracy"]) >= {"plain", "moed", "rad", "both", "both, vote"}
    assert str(whole) not in json.dumps(card)


def test_the_tower_learnt_the_toy(whole: Path, data: Path) -> None:
    from gsco.models.generalist.training.pixels import read_images
    from gsco.models.generalist.training.vision import accuracies, load_classifier

    config = toy_config(data, whole)
    images = read_images(config)
    with torch.inference_mode():
        assert accuracies(load_classifier(config, images), images["val"])["toy"] > 0.9


def test_the_tower_of_an_earlier_model_is_taken_over(whole: Path, data: Path, tmp_path: Path) -> None:
    from gsco.models.generalist.training.pixels import read_images
    from gsco.models.generalist.training.vision import accuracies, load_classifier

    config = toy_config(data, tmp_path, tower=whole / "out", joint=None)
    assert config.fingerprint("vision") == toy_config(data, tmp_path).fingerprint("vision")
    images = read_images(config)
    train_generalist(config)  # no teacher is asked
    with torch.inference_mode():
        assert accuracies(load_classifier(config, images), images["val"])["toy"] > 0.9
    one, other = (load_file(home / "out" / "model.safetensors") for home in (whole, tmp_path))
    same = [name for name in one if "vision_tower" in name]
    assert same and all(torch.equal(one[name], other[name]) for name in same)
    assert json.loads((tmp_path / "out" / "card.json").read_text())["training"]["tower_from"]


@pytest.mark.parametrize("given", ["nothing", "larger"])
def test_a_tower_that_does_not_fit_is_refused(whole: Path, data: Path, tmp_path: Path, given: str) -> None:
    from .toys import SIZES

    tower = {"nothing": tmp_path / "gone", "larger": whole / "out"}[given]
    sizes = SIZES | ({"vision_width": 32} if given == "larger" else {})
    with pytest.raises(ConfigurationError, match="tower"):
        train_generalist(toy_config(data, tmp_path, tower=tower, architecture=sizes))


def test_a_killed_run_ends_as_one_that_was_not(whole: Path, data: Path, tmp_path: Path) -> None:
    toys = Path(__file__).with_name("toys.py")
    script = KILLED.format(root=str(toys.parent), toys=str(toys), data=str(data), home=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "work" / "language.pt"
    until = time.monotonic() + 120
    while not checkpoint.is_file() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    train_generalist(toy_config(data, tmp_path))
    one, other = (load_file(home / "out" / "model.safetensors") for home in (whole, tmp_path))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_finished_run_is_recognised(whole: Path, data: Path) -> None:
    before = (whole / "out" / "model.safetensors").stat().st_mtime_ns
    assert train_generalist(toy_config(data, whole)) == whole / "out"
    assert (whole / "out" / "model.safetensors").stat().st_mtime_ns == before


def test_another_configuration_is_refused(whole: Path, data: Path, tmp_path: Path) -> None:
    changed = {"language": {"prompts": 32, "batch": 8}}
    with pytest.raises(ConfigurationError, match="another configuration"):
        train_generalist(toy_config(data, whole, **changed))
    other = toy_config(data, whole, **changed, out=tmp_path / "out")
    with pytest.raises(ConfigurationError, match=r"language\.pt"):
        train_generalist(other)
    assert not (tmp_path / "out").exists()


def test_a_task_that_does_not_fit_its_data_is_named(data: Path, tmp_path: Path) -> None:
    card = tmp_path / "other.toml"
    card.write_text('name = "other"\nmodality = "square"\noptions = ["left", "right"]\n')
    sources = [{"folder": "toy", "task": str(card)}]
    with pytest.raises(ConfigurationError, match="options"):
        train_generalist(toy_config(data, tmp_path, sources=sources))
    assert not (tmp_path / "work" / "vision.pt").exists()


def test_an_unknown_task_is_named_before_any_work(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nonesuch"):
        train_generalist(toy_config(data, tmp_path, sources=[{"folder": "toy", "task": "nonesuch"}]))
    assert not (tmp_path / "work").exists()
