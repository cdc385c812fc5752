"""Packs: out of one installation, into another, with the same answers to the bit."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from gsco.agent.api import GSCo
from gsco.agent.assembly import parts_of
from gsco.agent.cli import app
from gsco.agent.packs.archive import read_manifest
from gsco.agent.packs.export import export_pack
from gsco.agent.packs.install import install_pack
from gsco.agent.packs.verification import checked_pack
from gsco.case import Case
from gsco.errors import ConfigurationError
from gsco.models.mini.samples import samples
from gsco.settings import Settings
from typer.testing import CliRunner


def answers(settings: Settings, names: tuple[str, ...] = ("busi",)) -> list[str]:
    """Everything that a diagnosis says, but for what depends on the moment and the place of files."""
    with GSCo(**parts_of(settings)) as gsco:
        told = []
        for sample in [one for one in samples() if one.task in names]:
            image = gsco.images.put(sample.path)
            found = gsco.diagnose(Case(id=sample.path.name, images=(image,)), task=sample.task)
            content = found.model_dump(mode="json", exclude={"timings"})
            told.append(json.dumps(without_sources(content), sort_keys=True))
        return told


def without_sources(content: Any) -> Any:
    """Without the paths of known cases, which a pack leaves out."""
    if isinstance(content, dict):
        return {key: without_sources(value) for key, value in content.items() if key != "source"}
    return [without_sources(one) for one in content] if isinstance(content, list) else content


def test_an_installed_pack_gives_the_same_answers_to_the_bit(busi_pack, tmp_path):
    before = answers(Settings(home=tmp_path / "one"))
    other = Settings(home=tmp_path / "other")
    with pytest.raises(ConfigurationError, match="there is a task busi already"):
        install_pack(other, busi_pack)
    found = install_pack(other, busi_pack, replace=True)
    assert (found.build.name, found.build.version, found.new) == ("busi", "v1", True)
    assert before and answers(other) == before
    assert not install_pack(other, busi_pack, replace=True).new
    again = export_pack(other, "busi", tmp_path / "again.zip").manifest
    first = read_manifest(busi_pack)
    kept = {"specialists/", "cases/vectors", "cases/thumbnails", "task.json"}
    for name, one in first.files.items():
        if any(name.startswith(start) for start in kept):
            assert again.files[name] == one, name


def test_equal_content_gives_equal_bytes_and_images_can_stay_out(busi_pack, tmp_path):
    settings = Settings(home=tmp_path / "home")
    again = export_pack(settings, "busi", tmp_path / "again.zip")
    assert again.path.read_bytes() == busi_pack.read_bytes()
    without = export_pack(settings, "busi", tmp_path / "without.zip", images=False)
    assert "cases/thumbnails.safetensors" in again.manifest.files
    assert "cases/thumbnails.safetensors" not in without.manifest.files
    with checked_pack(without.path) as checked:
        assert checked.cases == again.cases


def test_a_pack_names_no_patient_and_no_place(busi_pack):
    with zipfile.ZipFile(busi_pack) as archive:
        lines = archive.read("cases/cases.jsonl").decode().splitlines()
        everything = b"".join(archive.read(name) for name in archive.namelist())
    cases = [json.loads(line) for line in lines]
    assert all(one["group"].startswith("group-") for one in cases if "group" in one)
    assert {one.get("source", "") for one in cases} <= {"busi", ""}
    assert str(Path.home()).encode() not in everything


def test_readme_and_metadata_describe_the_pack(busi_pack):
    with zipfile.ZipFile(busi_pack) as archive:
        readme = archive.read("README.md").decode()
        metadata = json.loads(archive.read("configs/metadata.json"))
    assert readme.startswith("---\nlibrary_name: gsco\n")
    assert "| regnet | regnetx_002 |" in readme
    assert "fitted on" in readme
    formats = metadata["network_data_format"]["probe"]
    assert formats["inputs"]["image"]["spatial_shape"] == [160, 160]
    assert formats["outputs"]["pred"]["channel_def"] == {"0": "benign", "1": "malignant", "2": "normal"}


def test_the_commands(busi_pack, tmp_path, monkeypatch):
    monkeypatch.setenv("GSCO_HOME", str(tmp_path / "home"))
    told = CliRunner().invoke(app, ["pack", "verify", str(busi_pack)])
    assert "is sound: task busi, 4 specialists" in told.output, told.output
    missing = CliRunner().invoke(app, ["pack", "verify", str(tmp_path / "none.zip")])
    assert missing.exit_code == 2
    assert "there is no pack" in missing.output


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("specialists/busi/probe/card.json", ("architecture", "hf-hub:someone/model"), "not in timm"),
        ("specialists/busi/probe/card.json", ("task", "other"), "card names other/probe"),
        (
            "specialists/busi/probe/card.json",
            ("labels", ["benign", "evil"]),
            "probe of the pack: .*(options|weights|shape)",
        ),
        ("specialists/busi/probe/card.json", ("weights", {"file": "../x", "sha256": "0" * 64}), "outside"),
        ("specialists/busi/probe/card.json", ("base", {"name": "../x", "sha256": "0" * 64}), "backbone"),
        ("specialists/busi/collaboration.json", ("task", "other"), "not of its task"),
        ("task.json", ("name", "chest_xray"), "card is for chest_xray"),
        ("task.json", ("options", ["a"]), "task card of the pack is wrong"),
    ],
)
def test_parts_that_do_not_fit_are_refused_though_their_hashes_are_right(
    busi_pack, tmp_path, name, change, message
):
    key, value = change
    files = contents(busi_pack)
    files[name] = json.dumps({**json.loads(files[name]), key: value}).encode()
    with pytest.raises(ConfigurationError, match=message), checked_pack(rewritten(files, tmp_path)):
        pass


def test_a_report_that_would_run_something_is_refused(busi_pack, tmp_path):
    files = {**contents(busi_pack), "report.html": b"<p onclick = 'x()'>x</p>"}
    with (
        pytest.raises(ConfigurationError, match="would run or fetch"),
        checked_pack(rewritten(files, tmp_path)),
    ):
        pass


def test_known_cases_of_another_task_are_refused(busi_pack, tmp_path):
    files = contents(busi_pack)
    files["cases/cases.jsonl"] = files["cases/cases.jsonl"].replace(b'"task":"busi"', b'"task":"x"', 1)
    with (
        pytest.raises(ConfigurationError, match="not of task busi"),
        checked_pack(rewritten(files, tmp_path)),
    ):
        pass


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != "manifest.json"}


def rewritten(files: dict[str, bytes], folder: Path) -> Path:
    """A pack of other files whose manifest has their hashes."""
    from gsco.agent.packs.archive import packed_file, write_archive
    from gsco.agent.packs.content import Manifest
    from gsco.models.specialist.backbone import read_backbone

    backbones = {"efficientnet_lite0": read_backbone("efficientnet_lite0")[0].weights.sha256}
    manifest = Manifest(
        name="busi",
        backbones=backbones,
        files={name: packed_file(content) for name, content in files.items()},
    )
    write_archive(folder / "pack.zip", files, manifest)
    return folder / "pack.zip"
