import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gsco.models.specialist.card import SpecialistCard, read_card, write_card
from gsco.models.specialist.panel import Panel, write_panel
from gsco.models.specialist.recipe import TrainingConfig
from gsco.models.specialist.training import train_specialist
from PIL import Image


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """Three members: two of one trunk, and a broken one."""
    for name in ("first", "second", "broken"):
        home = Path(shutil.copytree(trained, tmp_path / "colours" / name))
        card = read_card(home, SpecialistCard)
        reliability = {"first": 0.6, "second": 0.9, "broken": 1.0}[name]
        write_card(home, card.model_copy(update={"name": name, "reliability": reliability}))
    (tmp_path / "colours" / "broken" / "weights.safetensors").write_bytes(b"broken")
    return tmp_path


def pictures() -> list[Image.Image]:
    return [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue", "white")]


def test_a_broken_member_is_reported_and_the_others_work(folder: Path) -> None:
    panel = Panel.load("colours", [folder])
    assert set(panel.members) == {"first", "second"}
    assert panel.labels == ("blue", "green", "red")
    (missing,) = panel.missing
    assert missing.source == "specialist:broken"
    assert "damaged or was replaced" in missing.reason
    assert str(folder) not in missing.reason


def test_opinions_of_everybody(folder: Path) -> None:
    panel = Panel.load("colours", [folder])
    results = panel.forward(pictures())
    np.testing.assert_allclose(
        results["first"].probabilities, panel.members["first"].predict(pictures()), atol=1e-6
    )
    opinions = panel.opinions(pictures())
    assert [tuple(opinion.specialist for opinion in row) for row in opinions] == [("first", "second")] * 4
    assert opinions[0][1].reliability == 0.9


def test_a_shared_trunk_runs_once(folder: Path) -> None:
    panel = Panel.load("colours", [folder])
    passes = []
    for member in panel.members.values():
        member.network.register_forward_pre_hook(lambda *_: passes.append("whole"))
        member.network.get_submodule("layer1").register_forward_pre_hook(lambda *_: passes.append("trunk"))
    panel.forward(pictures())
    assert passes == ["trunk"]


def test_the_retriever(folder: Path) -> None:
    assert Panel.load("colours", [folder]).retriever == "second"
    write_panel(folder / "colours", "first")
    assert Panel.load("colours", [folder]).retriever == "first"
    write_panel(folder / "colours", "broken")
    panel = Panel.load("colours", [folder])
    assert panel.retriever == "second"
    assert [missing.source for missing in panel.missing] == ["specialist:broken"]
    write_panel(folder / "colours", "absent")
    assert "specialist:absent" in [missing.source for missing in Panel.load("colours", [folder]).missing]
    (folder / "colours" / "panel.json").write_text("{", encoding="utf-8")
    assert "specialist:panel.json" in [missing.source for missing in Panel.load("colours", [folder]).missing]


def test_a_users_specialist_takes_the_place_of_a_bundled_one(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(folder / "colours" / "first", mine / "colours" / "broken")
    card = read_card(mine / "colours" / "broken", SpecialistCard)
    write_card(mine / "colours" / "broken", card.model_copy(update={"name": "broken"}))
    panel = Panel.load("colours", [folder, mine])
    assert set(panel.members) == {"first", "second", "broken"}
    assert panel.missing == ()


def test_no_specialists_at_all(tmp_path: Path) -> None:
    panel = Panel.load("nothing", [tmp_path, tmp_path / "absent"])
    assert (panel.members, panel.missing, panel.retriever, panel.labels) == ({}, (), "", ())
    assert panel.opinions(pictures()) == [(), (), (), ()]


def test_a_misplaced_member_is_reported(folder: Path) -> None:
    shutil.copytree(folder / "colours" / "first", folder / "colours" / "third")
    panel = Panel.load("colours", [folder])
    assert "third" not in panel.members
    assert any("its card names colours/first" in missing.reason for missing in panel.missing)


def test_a_member_with_other_labels_is_left_out_and_the_others_go_on(
    folder: Path, colours: Path, recipe: Callable[..., TrainingConfig]
) -> None:
    torch.set_num_threads(1)
    rows = (colours / "labels.csv").read_text(encoding="utf-8").replace(",blue,", ",green,")
    other = folder / "data"
    shutil.copytree(colours, other)
    (other / "labels.csv").write_text(rows, encoding="utf-8")
    train_specialist(recipe(data=other, name="fourth", epochs=1), folder, quiet=True)
    panel = Panel.load("colours", [folder])
    assert set(panel.members) == {"first", "second"}
    assert {missing.source for missing in panel.missing} == {"specialist:broken", "specialist:fourth"}
    (fourth,) = [missing.reason for missing in panel.missing if missing.source == "specialist:fourth"]
    assert "['green', 'red']" in fourth and "['blue', 'green', 'red']" in fourth
    # The task's options decide, not the majority.
    narrow = Panel.load("colours", [folder], options=("green", "red"))
    assert set(narrow.members) == {"fourth"}
    assert sum("not options of the task" in missing.reason for missing in narrow.missing) == 2
    wide = Panel.load("colours", [folder], options=("blue", "green", "red"))
    assert set(wide.members) == {"first", "second"}


def _damage_card(home: Path, **changes: object) -> None:
    fields = json.loads((home / "card.json").read_bytes())
    (home / "card.json").write_text(json.dumps({**fields, **changes}), encoding="utf-8")


def _swap_for_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.attack
def test_no_kind_of_broken_folder_silences_the_others(folder: Path, trained: Path) -> None:
    damages: dict[str, Callable[[Path], object]] = {
        "cut": lambda home: (home / "card.json").write_bytes((home / "card.json").read_bytes()[:200]),
        "deep": lambda home: (home / "card.json").write_bytes(b"[" * 300_000),
        "endless": lambda home: ((home / "card.json").unlink(), (home / "card.json").symlink_to("/dev/zero")),
        "no_labels": lambda home: _damage_card(home, labels=[]),
        "more_labels": lambda home: _damage_card(home, labels=["blue", "green", "red", "white"]),
        "renamed": lambda home: _damage_card(home, labels=["a", "b", "c"]),
        "elsewhere": lambda home: _damage_card(home, weights={"file": "../x", "sha256": "0" * 64}),
        "other_net": lambda home: _damage_card(home, architecture="resnet18"),
        "no_net": lambda home: _damage_card(home, architecture="no_such_network"),
        "base": lambda home: _damage_card(home, base={"name": "../../x", "sha256": "0" * 64}),
        "unreadable": lambda home: _swap_for_folder(home / "weights.safetensors"),
        "flat": lambda home: _damage_card(home, temperature=0),
    }
    for name, damage in damages.items():
        home = Path(shutil.copytree(trained, folder / "colours" / name))
        _damage_card(home, name=name)
        damage(home)
    panel = Panel.load("colours", [folder], options=("blue", "green", "red"))
    assert set(panel.members) == {"first", "second"}
    named = {missing.source.removeprefix("specialist:") for missing in panel.missing}
    assert named == {"broken", *damages}
    assert all(len(sets) == 2 for sets in panel.opinions(pictures()))


def test_panel_file_is_plain_json(tmp_path: Path) -> None:
    write_panel(tmp_path, "first")
    assert json.loads((tmp_path / "panel.json").read_text(encoding="utf-8")) == {"retriever": "first"}
