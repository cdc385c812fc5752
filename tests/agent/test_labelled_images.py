"""Every command that reads a data set says what it understood and holds it against the task's card."""

from pathlib import Path

import numpy as np
import pytest
from gsco.agent.cli import app
from PIL import Image
from typer.testing import CliRunner

CARD = """name = "skin"
modality = "dermatoscopy"
options = ["melanoma", "nevus"]
"""


@pytest.fixture
def skin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "skin.toml").write_text(CARD, encoding="utf-8")
    monkeypatch.setenv("GSCO_TASKS", str(tmp_path / "tasks"))
    monkeypatch.setenv("GSCO_HOME", str(tmp_path / "home"))
    (tmp_path / "specialists").mkdir()
    monkeypatch.setenv("GSCO_SPECIALISTS", str(tmp_path / "specialists"))
    for label in ("melanoma", "nevis"):
        for number in range(6):
            path = tmp_path / "skin" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng([len(label), number]).integers(0, 255, (8, 8), np.uint8)
            Image.fromarray(pixels).save(path)
    return tmp_path / "skin"


@pytest.mark.parametrize(
    "command",
    [
        "data {data} --task busi --fast",
        "train specialist --dataset {data} --task busi",
        "train conversations {data} --task busi --out {out}/c.jsonl",
        "train bootstrap {data} --task busi --out {out}/c.jsonl",
        "store build {data} --task busi --store {out}/cases",
        "store retriever {data} --task busi --out {out}/specialists",
        "eval run {data} --task busi --out {out}/run",
        "fit busi --dataset {data} --out {out}/specialists",
    ],
)
def test_labels_that_are_no_options_end_every_command(skin, tmp_path, command):
    # A bundled task, since a store needs specialists.
    for label, misspelt in (("melanoma", "malignant"), ("nevis", "bening")):
        (skin / label).rename(skin / misspelt)
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [part.format(data=skin, out=out) for part in command.split()])
    assert result.exit_code == 2, result.output
    assert result.stderr.count("'bening' is not an option of task busi") == 1
    assert "did you mean 'benign'" in result.stderr
    assert not [path for path in tmp_path.rglob("*.safetensors")]
    assert not (out / "specialists").exists()


def test_a_specialist_needs_every_option(skin):
    for path in (skin / "nevis").iterdir():
        path.unlink()
    result = CliRunner().invoke(app, ["train", "specialist", "--dataset", str(skin), "--task", "skin"])
    assert result.exit_code != 0
    assert "no image of nevus" in str(result.exception) + result.output


def test_what_was_understood_is_printed_first(skin):
    (skin / "nevis").rename(skin / "nevus")
    command = ["train", "conversations", str(skin), "--task", "skin", "--out", str(skin.parent / "c.jsonl")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "data set skin: a folder per class" in result.output
    assert "drawn by group" in result.output
