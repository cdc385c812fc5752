from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from gsco.errors import ConfigurationError
from gsco.models.dataset import read_dataset
from gsco.models.splits import draw_splits
from PIL import Image


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)


def table(folder: Path, text: str) -> Path:
    lines = text.strip().splitlines()
    for number, line in enumerate(lines[1:]):
        if name := line.split(",")[0]:
            picture(folder / name, number)
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_csv_with_everything(tmp_path: Path) -> None:
    source = table(
        tmp_path, "path,label,group,split,report,age\na.png,x,g1,train,All well.,7\nb.png,y,g2,val,,8\n"
    )
    dataset = read_dataset(source)
    first, second = dataset.items
    assert (first.path, first.labels, first.group, first.split, first.report) == (
        tmp_path / "a.png",
        ("x",),
        "g1",
        "train",
        "All well.",
    )
    assert second.report is None
    assert dataset.labels == ("x", "y")
    assert not dataset.multilabel
    assert dataset.split("val") == [second]
    assert dataset.counts() == {"train": {"x": 1}, "val": {"y": 1}, "test": {}}
    assert read_dataset(tmp_path / "labels.csv").sha256 == dataset.sha256


def test_multilabel_is_recognised_by_the_plus(tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path, "path,label,split\na.png,x+y,train\nb.png,y,val\nc.png,,test\n"))
    assert dataset.multilabel
    assert [item.labels for item in dataset.items] == [("x", "y"), ("y",), ()]
    assert dataset.labels == ("x", "y")
    plain = read_dataset(
        table(tmp_path, "path,label,split\na.png,x+y,train\nb.png,y,val\n"), multilabel=False
    )
    assert plain.labels == ("x+y", "y")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,lable\na.png,x\n", "no column 'label'.*did you mean 'lable'"),
        ("path,label,split\na.png,x,later\n", "line 2.*'later'"),
        ("path,label,split\na.png,x,train\nb.png,y,\n", "1 of 2 images have no split"),
        ("path,label\na.png,\n", "line 2.*lacks its label"),
        ("path,label\n,x\n", "line 2.*lacks its path"),
        ("path,label\n", "no rows"),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_dataset(table(tmp_path, text))


def test_missing_file_and_missing_source(tmp_path: Path) -> None:
    source = table(tmp_path, "path,label,split\na.png,x,train\nb.png,y,val\n")
    (tmp_path / "b.png").unlink()
    with pytest.raises(ConfigurationError, match=r"1 image file.*b\.png"):
        read_dataset(source)
    with pytest.raises(ConfigurationError, match="no data set at"):
        read_dataset(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=r"neither a labels\.csv nor"):
        read_dataset(tmp_path / "empty")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,split\na.png,x,train\nb.png,y,val\nc.png,x,val\n", r"no training images of \['y'\]"),
        ("path,label,split\na.png,x,train\nb.png,y,train\nc.png,y,test\n", "no validation images"),
        ("path,label,split\na.png,x,train\nb.png,x,val\n", "at least two"),
    ],
)
def test_what_cannot_be_trained_on(tmp_path: Path, text: str, message: str) -> None:
    dataset = read_dataset(table(tmp_path, text))
    with pytest.raises(ConfigurationError, match=message):
        dataset.check_trainable()


def test_a_group_never_crosses_splits(tmp_path: Path) -> None:
    rows = ("a.png,x,p,train", "b.png,x,p,test", "c.png,y,q,train", "d.png,y,q,val", "e.png,x,r,train")
    text = "\n".join(["path,label,group,split", *rows])
    dataset = read_dataset(table(tmp_path, text))
    assert [(item.path.name, item.split) for item in dataset.items] == [
        ("b.png", "test"),
        ("d.png", "val"),
        ("e.png", "train"),
    ]
    assert dataset.dropped == 2


def test_folder_per_class(tmp_path: Path) -> None:
    for offset, label in ((0, "cat"), (10, "dog")):
        for number in range(10):
            picture(tmp_path / label / f"{number}.png", 100 + offset + number)
    picture(tmp_path / ".hidden" / "no.png", 5)
    (tmp_path / "cat" / "notes.txt").write_text("no image", encoding="utf-8")
    dataset = read_dataset(tmp_path)
    assert dataset.labels == ("cat", "dog")
    assert dataset.counts() == {
        "train": {"cat": 8, "dog": 8},
        "val": {"cat": 1, "dog": 1},
        "test": {"cat": 1, "dog": 1},
    }


def test_folder_per_split_and_class(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "cat" / "1.png", 1)
    picture(tmp_path / "valid" / "dog" / "2.png", 2)
    dataset = read_dataset(tmp_path)
    assert [(item.labels, item.split) for item in dataset.items] == [(("cat",), "train"), (("dog",), "val")]


def test_identical_files_stay_together(tmp_path: Path) -> None:
    for number in range(12):
        picture(tmp_path / "cat" / f"{number}.png", number % 4)
    groups = defaultdict(set)
    for item in read_dataset(tmp_path, seed=3).items:
        groups[item.path.read_bytes()].add(item.split)
    assert len(groups) == 4
    assert all(len(splits) == 1 for splits in groups.values())


def test_drawn_splits_keep_groups_whole_and_labels_spread() -> None:
    random = np.random.default_rng(0)
    groups = [f"p{number}" for number in random.integers(0, 200, 1000)]
    of_group = {group: ("rare",) if int(group[1:]) % 10 == 0 else ("common",) for group in groups}
    labels = [of_group[group] for group in groups]
    splits = draw_splits(groups, labels, seed=1, shares=(0.7, 0.1, 0.2))
    places = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        places[group].add(split)
    assert all(len(found) == 1 for found in places.values())
    for label in ("rare", "common"):
        counts = Counter(split for split, own in zip(splits, labels, strict=True) if own == (label,))
        shares = {split: count / counts.total() for split, count in counts.items()}
        assert shares == pytest.approx({"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.06)


def test_draws_depend_on_the_seed_only() -> None:
    groups = [str(number) for number in range(100)]
    labels = [("a",)] * 100
    draw = {seed: draw_splits(groups, labels, seed=seed, shares=(0.8, 0.1, 0.1)) for seed in (0, 1)}
    assert draw[0] == draw_splits(groups, labels, seed=0, shares=(0.8, 0.1, 0.1))
    assert draw[0] != draw[1]
    reordered = draw_splits(groups[::-1], labels, seed=0, shares=(0.8, 0.1, 0.1))
    assert reordered[::-1] == draw[0]


def test_three_groups_reach_every_split_and_one_goes_to_training() -> None:
    assert sorted(draw_splits(["a", "b", "c"], [("x",)] * 3, seed=0, shares=(0.8, 0.1, 0.1))) == [
        "test",
        "train",
        "val",
    ]
    assert draw_splits(["a"], [("x",)], seed=0, shares=(0.8, 0.1, 0.1)) == ["train"]
    with pytest.raises(ConfigurationError, match="add up to one"):
        draw_splits(["a"], [("x",)], seed=0, shares=(0.8, 0.1, 0.2))


def test_hash_follows_content_label_group_and_split(tmp_path: Path) -> None:
    text = "path,label,group,split\na.png,x,g,train\nb.png,y,h,val\n"
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    original = read_dataset(table(tmp_path / "1", text)).sha256
    assert read_dataset(table(tmp_path / "2", text)).sha256 == original
    for change in (("x,g", "z,g"), ("g,train", "k,train"), ("h,val", "h,test")):
        assert read_dataset(table(tmp_path / "2", text.replace(*change))).sha256 != original
    table(tmp_path / "2", text)
    picture(tmp_path / "2" / "a.png", 77)
    assert read_dataset(tmp_path / "2").sha256 != original
