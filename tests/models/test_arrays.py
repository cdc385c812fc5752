"""Files of arrays: unpacked into the images and labels that they hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gsco.errors import ConfigurationError
from gsco.images import read_image
from gsco.models.arrays import CLASSES, unpack
from gsco.models.dataset import read_dataset


def write(path: Path, **changed: np.ndarray) -> Path:
    random = np.random.default_rng(1)
    content = {}
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        content[f"{split}_images"] = random.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        content[f"{split}_labels"] = (np.arange(count)[:, None] % 2).astype(np.uint8)
    np.savez(path, **{**content, **changed})
    return path


def test_every_pixel_and_label_is_kept(tmp_path: Path) -> None:
    source = write(tmp_path / "pneumoniamnist.npz")
    folder = unpack(source, tmp_path / "out")
    found = read_dataset(folder)
    assert found.name == "pneumoniamnist"
    with np.load(source) as arrays:
        for split in ("train", "val", "test"):
            items = found.split(split)
            pixels = np.stack([np.asarray(read_image(item.path)) for item in items])
            assert (pixels == arrays[f"{split}_images"]).all()
            labels = [CLASSES["pneumoniamnist"].index(item.labels[0]) for item in items]
            assert labels == arrays[f"{split}_labels"][:, 0].tolist()


def test_colour_and_several_labels(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, 28, 28, 3), dtype=np.uint8)
    labels = {"train": [[1, 1], [0, 0], [0, 1]], "val": [[1, 0]] * 3, "test": [[0, 0], [1, 1], [1, 0]]}
    changed = {f"{split}_labels": np.array(rows, dtype=np.uint8) for split, rows in labels.items()}
    pictures = {f"{split}_images": np.roll(images, n, axis=1) for n, split in enumerate(labels)}
    source = write(tmp_path / "x.npz", **changed, **pictures)
    (tmp_path / "labels.json").write_text('["a", "b"]')
    found = read_dataset(unpack(source, tmp_path / "out"), multilabel=True)
    assert [item.labels for item in found.split("train")] == [("a", "b"), (), ("b",)]
    assert read_image(found.items[0].path).mode == "RGB"


def test_the_same_image_in_train_and_test_leaves_train(tmp_path: Path) -> None:
    source = write(tmp_path / "pneumoniamnist.npz")
    with np.load(source) as arrays:
        content = dict(arrays)
    content["train_images"][0] = content["test_images"][1]
    write(source, **content)
    found = read_dataset(unpack(source, tmp_path / "out"))
    assert found.dropped == 1 and len(found.split("test")) == 3


def test_a_folder_that_holds_nothing_else_is_taken_for_its_arrays(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GSCO_HOME", str(tmp_path / "home"))
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "mine.npz")
    with pytest.raises(ConfigurationError, match=r"classes of mine\.npz are not known"):
        read_dataset(tmp_path / "set")
    (tmp_path / "set" / "labels.json").write_text(json.dumps(["no", "yes"]), encoding="utf-8")
    assert read_dataset(tmp_path / "set").labels == ("no", "yes")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"test_labels": np.array([[0], [1], [7]], dtype=np.uint8)}, "a label is not one of the 2 classes"),
        ({"test_labels": np.zeros((2, 1), dtype=np.uint8)}, "3 images need as many"),
        ({"test_labels": np.zeros((3, 4), dtype=np.uint8)}, "4 label columns, but 2 classes"),
        ({"test_images": np.zeros((3, 28, 28, 28), dtype=np.uint8)}, "volumes are not supported"),
        ({"test_images": np.zeros((3, 28, 28), dtype=np.float32)}, "must be uint8"),
    ],
)
def test_what_is_no_such_file_is_an_error_and_leaves_nothing(tmp_path: Path, changed, said: str) -> None:
    source = write(tmp_path / "pneumoniamnist.npz", **changed)
    with pytest.raises(ConfigurationError, match=said):
        unpack(source, tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_damaged_file_and_missing_arrays_are_named(tmp_path: Path) -> None:
    (tmp_path / "pneumoniamnist.npz").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ConfigurationError, match="not a file of plain arrays"):
        unpack(tmp_path / "pneumoniamnist.npz", tmp_path / "out")
    np.savez(tmp_path / "breastmnist.npz", train_images=np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(ConfigurationError, match="lacks the arrays train_labels, val_images"):
        unpack(tmp_path / "breastmnist.npz", tmp_path / "out")
