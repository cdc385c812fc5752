"""Data sets, fits and watches of others: pipes and devices, bombs, odd JSON, files that were edited."""

from __future__ import annotations

import json
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gsco import GSCo
from gsco.agent.builds import damaged_builds
from gsco.agent.configuration import settings_from
from gsco.errors import ConfigurationError
from gsco.graphs.collaboration_fit import CollaborationFit, read_fit
from gsco.graphs.drift import DriftMonitor
from gsco.models.dataset import read_dataset
from PIL import Image

pytestmark = pytest.mark.attack

COCO = {
    "images": [{"id": 1, "file_name": "a.png"}],
    "annotations": [{"image_id": 1, "category_id": 1}],
    "categories": [{"id": 1, "name": "one"}],
}
STUDIO = [{"data": {"image": "a.png"}, "annotations": [{"result": [{"value": {"choices": ["one"]}}]}]}]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four images of no class."""
    made = tmp_path / "set"
    made.mkdir()
    for number, name in enumerate("abcd"):
        Image.new("L", (9, 9), 20 * number).save(made / f"{name}.png")
    return made


def refused(source: Path, seconds: float = 5.0) -> str:
    start = time.monotonic()
    with pytest.raises(ConfigurationError) as found:
        read_dataset(source)
    assert time.monotonic() - start < seconds
    return str(found.value)


@pytest.mark.parametrize("name", ["labels.csv", "table.csv", "table.tsv", "metadata.jsonl", "export.json"])
@pytest.mark.parametrize("target", ["pipe", "/dev/zero", "/proc/self/mem"])
def test_a_table_that_is_a_pipe_or_a_device_is_not_waited_for(folder, name, target):
    if target == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to(target)
    refused(folder)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_a_table_that_is_named_itself_is_no_pipe_either(tmp_path, suffix):
    os.mkfifo(tmp_path / f"x{suffix}")
    refused(tmp_path / f"x{suffix}")


def test_an_image_of_two_hundred_gigabytes_is_named(folder):
    """Sparse: it takes no room on the disk, but would take it in memory."""
    with (folder / "a.png").open("ab") as file:
        file.truncate(200 * 2**30)
    (folder / "labels.csv").write_text("path,label\na.png,one\nb.png,two\n", encoding="utf-8")
    assert "a.png" in refused(folder)


def test_a_table_of_two_gigabytes_is_refused(folder):
    with (folder / "labels.csv").open("ab") as file:
        file.truncate(2 * 2**30)
    assert "larger than" in refused(folder)


@pytest.mark.parametrize(
    "line",
    [
        '{"path": ' + "[" * 100_000,
        '{"path": ' + "9" * 5000 + "}",
        "[1]",
        '{"path": "a.png", "label": "\\ud800"}',
    ],
    ids=["nesting", "long number", "no object", "half a character"],
)
def test_an_odd_line_of_json_is_an_error_in_a_sentence(folder, line):
    (folder / "metadata.jsonl").write_text(line + "\n", encoding="utf-8")
    assert len(refused(folder)) < 600


@pytest.mark.parametrize(
    "content",
    [
        {**COCO, "images": [7]},
        {**COCO, "images": [{"id": [], "file_name": "a.png"}]},
        {**COCO, "annotations": [None]},
        {**COCO, "categories": [{"id": {}, "name": 1}]},
        {**COCO, "categories": [{"id": 1, "name": "\ud800"}]},
        [*STUDIO, 7],
        [*STUDIO, {"data": []}],
        [*STUDIO, {"data": {"image": "http://["}}],
        [{**STUDIO[0], "annotations": [7]}],
        [{**STUDIO[0], "annotations": [{"result": {"a": 1}}]}],
        [{**STUDIO[0], "annotations": [{"result": [{"value": {"choices": 7}}]}]}],
        [{"image": "a.png", "choice": [[7]]}, 7],
        [{"image": "a.png\0", "choice": "one"}],
        [{"image": "/dev/zero", "choice": "one"}],
        [{"image": "../" * 500, "choice": "one"}],
    ],
)
def test_an_odd_export_is_an_error_in_a_sentence(folder, content):
    (folder / "export.json").write_text(json.dumps(content), encoding="utf-8")
    refused(folder / "export.json")


def test_a_name_in_an_old_encoding_is_told(folder):
    for label in ("caf\udce9", "other"):
        (folder / label).mkdir()
        Image.new("L", (9, 9), len(label)).save(folder / label / "x.png")
    assert "not UTF-8" in refused(folder)


def test_links_in_a_circle_end(folder):
    (folder / "one").mkdir()
    (folder / "one" / "again").symlink_to(folder)
    (folder / "one" / "x.png").symlink_to("x.png")
    (folder / "one" / "y.png").symlink_to("/nowhere")
    refused(folder)


def arrays(path: Path, shape: tuple[int, ...], content: bytes = b"") -> Path:
    """A file of arrays whose headers claim a shape that they do not hold."""
    with zipfile.ZipFile(path, "w") as archive:
        for split in ("train", "val", "test"):
            for part, one in (("images", shape), ("labels", (1, 1))):
                with archive.open(f"{split}_{part}.npy", "w") as file:
                    header = {"descr": "|u1", "fortran_order": False, "shape": one}
                    np.lib.format.write_array_header_1_0(file, header)
                    file.write(content)
    return path


@pytest.mark.parametrize("shape", [(10**6, 10**4, 10**4), (2**40, 2, 2, 3), (-1, 2, 2)])
def test_arrays_that_claim_terabytes_are_refused(tmp_path, monkeypatch, shape):
    monkeypatch.setenv("GSCO_HOME", str(tmp_path / "home"))
    refused(arrays(tmp_path / "pneumoniamnist.npz", shape))


def test_arrays_of_code_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GSCO_HOME", str(tmp_path / "home"))
    np.savez(tmp_path / "pneumoniamnist.npz", train_images=np.array([print], dtype=object))
    refused(tmp_path / "pneumoniamnist.npz")


FIT = {
    "task": "busi",
    "task_version": "1",
    "kind": "diagnosis",
    "options": ["benign", "malignant", "normal"],
    "rule": "fused",
    "chosen": ["lite0"],
    "parts": {},
    "cases": 40,
    "groups": 40,
    "quiet": {
        "options": ["benign", "malignant", "normal"],
        "exclusive": True,
        "weights": {"lite0": 1.0},
        "offsets": [0.0, 0.0, 0.0],
    },
}


def written(folder: Path, text: str) -> Path:
    (folder / "busi").mkdir(parents=True, exist_ok=True)
    (folder / "busi" / "collaboration.json").write_text(text, encoding="utf-8")
    return folder


def edited(**changes: object) -> str:
    return json.dumps({**FIT, "quiet": {**FIT["quiet"], **changes}})


def test_the_fit_that_is_edited_below_is_sound(tmp_path):
    assert isinstance(read_fit([written(tmp_path, json.dumps(FIT))], "busi"), CollaborationFit)


@pytest.mark.parametrize(
    "text",
    [
        edited(weights={"lite0": float("nan")}),
        edited(weights={"lite0": float("inf")}),
        edited(offsets=[0.0, 0.0]),
        edited(offsets=[0.0, float("-inf"), 0.0]),
        edited(options=[], offsets=[]),
        edited(options=["benign", "malignant", "other"]),
        edited(label_weights={"lite0": [[1.0, 2.0]]}),
        edited(label_weights={"lite0": [[float("nan")] * 3] * 3}),
        edited(sets={"options": ["benign"], "sets": [["x"]]}),
        edited(sets={"options": ["benign", "malignant", "normal"], "sets": []}),
        json.dumps({**FIT, "held_out": {"confidence": [0.5, 0.6], "right": [True]}}),
        json.dumps({**FIT, "reference": [{"doubt": float("nan"), "distance": 0.1}]}),
        "[" * 100_000,
        "\0",
        "",
        '{"task": "busi"}',
        json.dumps(FIT)[:-9],
    ],
)
def test_a_fit_that_was_edited_counts_as_none(tmp_path, text):
    with pytest.raises(ConfigurationError, match="run `gsco fit busi` again"):
        read_fit([written(tmp_path, text)], "busi")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "giant"])
def test_a_fit_that_is_no_file_counts_as_none(tmp_path, kind):
    place = tmp_path / "busi"
    place.mkdir()
    path = place / "collaboration.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(100 * 2**30)
    start = time.monotonic()
    with pytest.raises(ConfigurationError, match="run `gsco fit busi` again"):
        read_fit([tmp_path], "busi")
    assert time.monotonic() - start < 2


def damage(path: Path, kind: str) -> None:
    """Put something in the place of a watch that no watch is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"\0\xff\n" if kind == "binary" else b'{"fit":"x","scores":{"doubt":NaN}}\n')


@pytest.mark.parametrize("kind", ["binary", "numbers", "folder", "pipe"])
def test_a_damaged_watch_is_told_and_stops_nothing(tmp_path, kind):
    fit = CollaborationFit.model_validate_json(json.dumps(FIT))
    damage(tmp_path / "busi.jsonl", kind)
    warned, stopped = DriftMonitor(tmp_path), DriftMonitor(tmp_path, "suspend")
    assert "no drift is found" in warned.words("busi", fit) and not warned.suspended("busi", fit)
    assert "gsco monitor --reset busi" in stopped.suspended("busi", fit), "it cannot tell that all is well"
    assert warned.count("busi", fit) == 0 and warned.alarm("busi", fit) is None
    if kind != "folder":
        warned.reset("busi")
        assert warned.words("busi", fit) == ""


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"../../etc", b"v9", b"v1\0", b"v" * 10**6])
def test_a_build_whose_version_is_damaged_is_left_out(tmp_path, content):
    place = tmp_path / "builds" / "moles"
    place.mkdir(parents=True)
    (place / "current").write_bytes(content)
    with GSCo.from_settings(home=tmp_path, torch_threads=1) as made:
        assert "busi" in made.tasks.names() and "moles" not in made.tasks.names()
    [(name, error)] = damaged_builds(tmp_path).items()
    assert name == "moles" and str(place / "current") in str(error)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("GSCO_NEIGHBOURS=3\n".encode("utf-16"), "UTF-8"),
        (b"\xff\xfe\0", "UTF-8"),
        (b'GSCO_NEIGHBOURS=3\nGSCO_API_KEYS="anna:key-of-anna-0123456789\n', "line 2"),
        (b"GSCO_NEIGHBOURS=" + b"9" * 6000, "GSCO_NEIGHBOURS"),
        (b"x" * 2**21, "cannot be read"),
    ],
)
def test_settings_that_would_be_read_in_part_are_refused(tmp_path, monkeypatch, content, says):
    """A quote that is missing would leave the keys out, and so the door open."""
    (tmp_path / ".env").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=says) as found:
        settings_from()
    assert "key-of-anna" not in str(found.value)


def test_a_byte_order_mark_and_lines_of_other_programs_do_no_harm(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text(
        'GSCO_PROFILE=calibrated\nOTHER="never ends\nGSCO_NEIGHBOURS=3\n', "utf-8-sig"
    )
    monkeypatch.chdir(tmp_path)
    assert (settings_from().profile, settings_from().neighbours) == ("calibrated", 3)
