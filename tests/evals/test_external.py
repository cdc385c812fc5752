"""A pack measured on the images of another site, as it is."""

import json
import shutil

import pytest
from gsco.agent.cli import app
from gsco.agent.packs.export import export_pack
from gsco.models.mini.samples import samples
from gsco.settings import Settings
from typer.testing import CliRunner

pytestmark = pytest.mark.slow


def test_a_pack_on_another_sites_images(tmp_path, monkeypatch):
    monkeypatch.setenv("GSCO_HOME", str(tmp_path / "home"))
    pack = export_pack(Settings(home=tmp_path / "home"), "busi", tmp_path / "busi.zip").path
    for sample in (one for one in samples() if one.task == "busi"):
        place = tmp_path / "site" / sample.label.upper()
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.path, place)
    command = ["eval", "external", str(pack), str(tmp_path / "site"), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["task"]["name"] == "busi"
    assert not (tmp_path / "home" / "builds").exists()
    (tmp_path / "site" / "BENIGN").rename(tmp_path / "site" / "begnin")
    wrong = CliRunner().invoke(app, [*command[:-1], str(tmp_path / "other")])
    assert wrong.exit_code == 2
    assert "did you mean 'benign'" in wrong.output
