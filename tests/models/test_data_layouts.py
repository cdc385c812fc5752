"""Data sets as people have them on disk: what is read, what is left out and said, and what is refused."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from gsco.case import Task, TaskKind
from gsco.errors import ConfigurationError
from gsco.models.data.labels import separator_of
from gsco.models.data.rows import split_named
from gsco.models.dataset import Columns, Dataset, read_dataset
from PIL import Image

_COUNTER = iter(range(10**6))
SKIN = Task(
    name="skin",
    modality="dermatoscopy",
    options=("melanoma", "nevus"),
    aliases={"nevus": ("naevus",)},
)


def picture(path: Path, kind: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(next(_COUNTER)).integers(0, 255, (8, 8), np.uint8)
    Image.fromarray(pixels).save(path, kind)
    return path


def pictures(folder: Path, *names: str, kind: str | None = None) -> None:
    for name in names:
        picture(folder / name, kind)


def labels(dataset: Dataset) -> dict[str, int]:
    return dict(Counter("+".join(item.labels) for item in dataset.items))


def splits(dataset: Dataset) -> dict[str, int]:
    return dict(Counter(item.split for item in dataset.items))


# Folders


def kaggle(folder: Path) -> None:
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        for label in ("NORMAL", "PNEUMONIA"):
            pictures(folder / split / label, *(f"{split}{n}.jpeg" for n in range(count)))


def test_a_second_copy_and_macos_leftovers_are_left_out_and_said(tmp_path):
    kaggle(tmp_path)
    before = read_dataset(tmp_path)
    for split in ("train", "val", "test"):
        shutil.copytree(tmp_path / split, tmp_path / "chest_xray" / split)
    (tmp_path / "__MACOSX" / "train").mkdir(parents=True)
    (tmp_path / "__MACOSX" / "train" / "._train0.jpeg").write_bytes(b"x")
    dataset = read_dataset(tmp_path)
    assert splits(dataset) == {"train": 8, "val": 4, "test": 6}
    assert labels(dataset) == {"NORMAL": 9, "PNEUMONIA": 9}
    assert dataset.sha256 == before.sha256
    assert "left out 18: copies inside chest_xray/" in dataset.table()
    assert "left out 1: left behind by an archive" in dataset.table()


def test_another_data_set_inside_is_refused(tmp_path):
    kaggle(tmp_path)
    kaggle(tmp_path / "more")
    with pytest.raises(ConfigurationError, match="splits of its own in more"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("wrapper", ["archive", "archive/chest_xray", "data/images"])
def test_folders_around_the_splits_are_no_classes(tmp_path, wrapper):
    kaggle(tmp_path / wrapper)
    assert labels(read_dataset(tmp_path)) == {"NORMAL": 9, "PNEUMONIA": 9}


@pytest.mark.parametrize(
    ("names", "given"),
    [
        (("Training", "Testing"), {"train": 4, "test": 4}),
        (("train", "dev", "test"), {"train": 4, "val": 4, "test": 4}),
        (("TRAIN", "Valid"), {"train": 4, "val": 4}),
        (("train_images", "test_images"), {"train": 4, "test": 4}),
    ],
)
@pytest.mark.parametrize("outer", [True, False])
def test_splits_above_and_below_the_classes(tmp_path, names, given, outer):
    for split in names:
        for label in ("a", "b"):
            place = tmp_path / split / label if outer else tmp_path / label / split
            pictures(place, *(f"{split}{label}{n}.png" for n in range(2)))
    dataset = read_dataset(tmp_path)
    assert splits(dataset) == given
    assert set(labels(dataset)) == {"a", "b"}


def test_a_class_may_be_called_like_a_split(tmp_path):
    for label in ("control", "test"):
        pictures(tmp_path / label, *(f"{n}.png" for n in range(3)))
    assert labels(read_dataset(tmp_path)) == {"control": 3, "test": 3}


def test_a_stray_folder_beside_the_splits_is_left_out_and_many_are_refused(tmp_path):
    kaggle(tmp_path)
    picture(tmp_path / "samples" / "x.jpg")
    assert (
        "left out 1: outside the folders of the splits, for example samples/x.jpg"
        in read_dataset(tmp_path).table()
    )
    pictures(tmp_path / "samples", *(f"{n}.jpg" for n in range(9)))
    with pytest.raises(ConfigurationError, match="10 of 28 images lie outside"):
        read_dataset(tmp_path)


def test_validation_is_drawn_where_only_train_and_test_are_given(tmp_path):
    for split in ("Training", "Testing"):
        for label in ("a", "b"):
            pictures(tmp_path / split / label, *(f"{n}.png" for n in range(10)))
    assert splits(read_dataset(tmp_path)) == {"train": 20, "test": 20}
    dataset = read_dataset(tmp_path, draw_validation=True)
    assert splits(dataset) == {"train": 18, "val": 2, "test": 20}
    assert "val drawn from train" in dataset.table()
    dataset.check_trainable()


@pytest.mark.parametrize(
    "style", ["{} ({})_mask.png", "{} ({})_mask_1.png", "{} ({})_seg.png", "{} ({})-mask.png"]
)
def test_masks_by_name(tmp_path, style):
    for label in ("benign", "normal"):
        for number in range(3):
            pictures(tmp_path / label, f"{label} ({number}).png", style.format(label, number))
    dataset = read_dataset(tmp_path)
    assert labels(dataset) == {"benign": 3, "normal": 3}
    assert "left out 6: masks of other images" in dataset.table()


@pytest.mark.parametrize("place", ["{label}/{kind}", "{kind}/{label}"])
@pytest.mark.parametrize("word", ["masks", "Masks", "segmentation", "ground_truth", "GT"])
def test_masks_by_folder(tmp_path, place, word):
    for label in ("COVID", "Normal"):
        for number in range(3):
            picture(tmp_path / place.format(label=label, kind="images") / f"{label}-{number}.png")
            picture(tmp_path / place.format(label=label, kind=word) / f"{label}-{number}.png")
    dataset = read_dataset(tmp_path)
    assert labels(dataset) == {"COVID": 3, "Normal": 3}
    assert "left out 6: masks" in dataset.table()


def test_a_class_may_be_called_mask(tmp_path):
    pictures(tmp_path / "mask", "p1.png", "p2.png", "p3_mask.png")
    pictures(tmp_path / "no_mask", "q1.png", "q2.png")
    assert labels(read_dataset(tmp_path)) == {"mask": 3, "no_mask": 2}


def test_endings_of_every_kind(tmp_path):
    for label in ("a", "b"):
        for number, (name, kind) in enumerate(
            [
                ("x.PNG", "PNG"),
                ("x.JPG", "JPEG"),
                ("x.jfif", "JPEG"),
                ("IM0001", "PNG"),
                ("x.pgm", "PPM"),
                ("I.1", "PNG"),
            ]
        ):
            picture(tmp_path / label / f"{number}{name}", kind)
    (tmp_path / "a" / "notes.txt").write_text("no image", encoding="utf-8")
    (tmp_path / "a" / "unknown").write_bytes(b"no image either")
    (tmp_path / "c").mkdir()
    dataset = read_dataset(tmp_path)
    assert labels(dataset) == {"a": 6, "b": 6}
    table = dataset.table()
    assert "left out 1: no images, by their ending, for example a/notes.txt" in table
    assert "left out 1: no images, by their content, for example a/unknown" in table
    assert "1 empty folders, for example c" in table


def test_classes_below_organs(tmp_path):
    for organ in ("lung_image_sets", "colon_image_sets"):
        for kind in ("n", "aca"):
            pictures(tmp_path / organ / f"{organ[:4]}_{kind}", *(f"{n}.jpeg" for n in range(3)))
    dataset = read_dataset(tmp_path)
    assert set(labels(dataset)) == {"lung_n", "lung_aca", "colo_n", "colo_aca"}
    assert "innermost" in dataset.table()


def test_patients_below_classes(tmp_path):
    for label in ("a", "b"):
        for patient in ("P1", "P2"):
            pictures(tmp_path / label / f"{label}{patient}", "1.png", "2.png")
    assert labels(read_dataset(tmp_path)) == {"a": 4, "b": 4}


def test_two_levels_that_may_be_the_classes_are_asked_about(tmp_path):
    for view in ("frontal", "lateral"):
        for label in ("melanoma", "naevus"):
            pictures(tmp_path / view / label, "1.png", "2.png")
    with pytest.raises(ConfigurationError, match="frontal, lateral; or melanoma, naevus"):
        read_dataset(tmp_path)
    assert labels(read_dataset(tmp_path, task=SKIN)) == {"melanoma": 4, "nevus": 4}


# Tables


def table(folder: Path, text: str, encoding: str = "utf-8", name: str = "labels.csv") -> Path:
    for number in range(4):
        if not (folder / "img" / f"{number}.png").exists():
            picture(folder / "img" / f"{number}.png")
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


ROWS = [("img/0.png", "a"), ("img/1.png", "b"), ("img/2.png", "a"), ("img/3.png", "b")]


def text_of(heading: str = "path,label", delimiter: str = ",", rows=ROWS, end: str = "\n") -> str:
    return end.join([heading.replace(",", delimiter), *(delimiter.join(row) for row in rows), ""])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_and_delimiters(tmp_path, encoding, delimiter, end):
    rows = [
        ("img/0.png", "Müller-Zelle"),
        ("img/1.png", "b"),
        ("img/2.png", "Müller-Zelle"),
        ("img/3.png", "b"),
    ]
    path = table(tmp_path, text_of(delimiter=delimiter, rows=rows, end=end), encoding)
    assert labels(read_dataset(path)) == {"Müller-Zelle": 2, "b": 2}


@pytest.mark.parametrize(
    "text",
    [
        "path , label\n" + "".join(f"{p}, {label}\n" for p, label in ROWS),
        "Path,Label\n" + "".join(f"{p},{label}\n" for p, label in ROWS),
        ",path,label\n" + "".join(f"{n},{p},{label}\n" for n, (p, label) in enumerate(ROWS)),
        "path,label\n\n" + "\n".join(f"{p},{label}" for p, label in ROWS) + "\n\n\n",
        "path,label\n" + "".join(f"{p.replace('/', chr(92))},{label}\n" for p, label in ROWS),
        "path,label\n" + "".join(f"D:\\data\\{p.replace('/', chr(92))},{label}\n" for p, label in ROWS),
        "image_id,dx\n" + "".join(f"{Path(p).stem},{label}\n" for p, label in ROWS),
        "filename,class\n" + "".join(f"{Path(p).name},{label}\n" for p, label in ROWS),
        "sep=;\npath;label\n" + "".join(f"{p};{label}\n" for p, label in ROWS),
        "image,a,b\n" + "".join(f"{p},{int(label == 'a')},{float(label == 'b')}\n" for p, label in ROWS),
        "path,label\n" + "".join(f'"{p}","{label}"\n' for p, label in ROWS),
    ],
)
def test_dialects(tmp_path, text):
    dataset = read_dataset(table(tmp_path, text))
    assert labels(dataset) == {"a": 2, "b": 2}
    assert not dataset.multilabel
    assert [item.path.name for item in dataset.items] == ["0.png", "1.png", "2.png", "3.png"]


def test_paths_out_of_the_folder_and_absolute_ones(tmp_path, monkeypatch):
    rows = [(f"../{tmp_path.name}/{path}", label) for path, label in ROWS]
    dataset = read_dataset(table(tmp_path, text_of(rows=rows)))
    assert dataset.folder == tmp_path
    assert dataset.items[0].path == tmp_path / "img" / "0.png"
    (tmp_path / "tables").mkdir()
    path = table(
        tmp_path, text_of(rows=[(str(tmp_path / p), label) for p, label in ROWS]), name="tables/x.csv"
    )
    dataset = read_dataset(path)
    assert labels(dataset) == {"a": 2, "b": 2}
    assert all(item.path.is_relative_to(dataset.folder) for item in dataset.items)
    monkeypatch.chdir(tmp_path)
    assert labels(read_dataset(Path("tables/x.csv"))) == {"a": 2, "b": 2}


def test_columns_by_name(tmp_path):
    path = table(tmp_path, text_of("scan,verdict"))
    with pytest.raises(ConfigurationError, match="--path-column"):
        read_dataset(path)
    with pytest.raises(ConfigurationError, match="--label-column"):
        read_dataset(path, columns=Columns("scan"))
    assert labels(read_dataset(path, columns=Columns("scan", "verdict"))) == {"a": 2, "b": 2}
    with pytest.raises(ConfigurationError, match=r"no column 'nothing' \(--path-column\)"):
        read_dataset(path, columns=Columns("nothing", "verdict"))


@pytest.mark.parametrize("word", ["nan", "NaN", "<NA>", "N/A", "null", ""])
def test_missing_labels_are_named_by_their_line(tmp_path, word):
    with pytest.raises(ConfigurationError, match="line 5"):
        read_dataset(table(tmp_path, text_of(rows=[*ROWS[:3], ("img/3.png", word)])))


def test_an_option_may_be_called_like_a_missing_value(tmp_path):
    card = Task(name="t", modality="m", options=("null", "a"))
    rows = [(path, "null" if label == "b" else label) for path, label in ROWS]
    assert labels(read_dataset(table(tmp_path, text_of(rows=rows)), task=card)) == {"a": 2, "null": 2}


def test_one_image_with_two_labels_is_refused_by_name_and_line(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"'img/0\.png' has two labels: 'a' on line 2 and 'b' on line 6"
    ):
        read_dataset(table(tmp_path, text_of(rows=[*ROWS, ("img/0.png", "b")])))
    with pytest.raises(ConfigurationError, match="two splits"):
        rows = [(*row, "train") for row in ROWS]
        read_dataset(table(tmp_path, text_of("path,label,split", rows=[*rows, ("img/0.png", "a", "test")])))
    dataset = read_dataset(table(tmp_path, text_of(rows=[*ROWS, *ROWS])))
    assert len(dataset.items) == 4
    assert "4 rows name an image again" in dataset.table()


def test_one_content_under_two_labels_is_noted(tmp_path):
    path = table(tmp_path, text_of())
    shutil.copy(tmp_path / "img" / "0.png", tmp_path / "img" / "1.png")
    assert (
        "1 images occur under different labels, for example img/0.png (a) and img/1.png (b)"
        in read_dataset(path).table()
    )


@pytest.mark.parametrize(("one", "other"), [("Mass", "mass"), ("no finding", "No_Finding"), ("a  b", "a b")])
def test_labels_that_differ_in_case_or_blanks_are_refused(tmp_path, one, other):
    rows = [(path, one if label == "a" else other) for path, label in ROWS]
    with pytest.raises(ConfigurationError, match="differ only in case or blanks"):
        read_dataset(table(tmp_path, text_of(rows=rows)))


def test_a_likely_typing_error_is_noted(tmp_path):
    for number in range(25):
        picture(tmp_path / "adenocarcinoma" / f"{number}.png")
        picture(tmp_path / "normal" / f"{number}.png")
    picture(tmp_path / "adenocarcinomaa" / "1.png")
    assert "may be a typing error of 'adenocarcinoma'" in read_dataset(tmp_path).table()


def test_a_field_too_many_is_named_by_its_line(tmp_path):
    with pytest.raises(ConfigurationError, match=r"line 3 of labels\.csv has 3 fields"):
        read_dataset(table(tmp_path, "path,label\nimg/0.png,a\nimg/1.png,b,sure\n"))


def test_a_name_that_several_files_bear_is_refused(tmp_path):
    pictures(tmp_path, "one/x.png", "two/x.png", "one/y.png")
    (tmp_path / "labels.csv").write_text("path,label\nx.png,a\ny.png,b\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"several files are called 'x\.png'"):
        read_dataset(tmp_path)
    (tmp_path / "labels.csv").write_text("path,label\nC:\\two\\x.png,a\ny.png,b\n", encoding="utf-8")
    assert read_dataset(tmp_path).items[0].path == tmp_path / "two" / "x.png"


# Several labels in one text


@pytest.mark.parametrize(
    ("texts", "sign"),
    [
        (["effusion+mass", "mass", ""], "+"),
        (["a + b", "b"], "+"),
        (["a|b", "c"], "|"),
        (["a;b", "c"], ";"),
        (["CD4+", "CD8+"], None),
        (["CD4+", "CD4+CD8+"], None),
        (["ER+/HER2-", "ER-/HER2+"], None),
        (["CD4+ T cell", "B cell"], None),
        (["a", "b"], None),
        (["+", "-"], None),
        (["grade 2+", "grade 1"], None),
    ],
)
def test_separators_by_the_look_of_the_labels(texts, sign):
    assert separator_of(texts, None) == sign
    assert separator_of(texts, False) is None


@pytest.mark.parametrize("plus", ["CD4+", "ER+/HER2-", "HER2 3+"])
def test_a_plus_in_a_name_stays_in_it_and_is_said(tmp_path, plus):
    rows = [(path, plus if label == "a" else label) for path, label in ROWS]
    dataset = read_dataset(table(tmp_path, text_of(rows=rows)))
    assert not dataset.multilabel
    assert labels(dataset) == {plus: 2, "b": 2}
    assert "a plus is part of a label" in dataset.table()


def test_the_task_says_whether_a_plus_separates(tmp_path):
    rows = [(path, "melanoma+nevus" if label == "a" else "nevus") for path, label in ROWS]
    path = table(tmp_path, text_of(rows=rows))
    with pytest.raises(ConfigurationError, match="is not an option"):
        read_dataset(path, task=SKIN)
    several = SKIN.model_copy(update={"kind": TaskKind.MULTILABEL})
    assert labels(read_dataset(path, task=several)) == {"melanoma+nevus": 2, "nevus": 2}
    assert "separated by '+', as in 'melanoma+nevus'" in read_dataset(path).table()


def test_rows_of_one_image_are_put_together_for_a_multilabel_task(tmp_path):
    rows = [("img/0.png", "melanoma"), ("img/0.png", "nevus"), ("img/1.png", "naevus")]
    several = SKIN.model_copy(update={"kind": TaskKind.MULTILABEL})
    assert labels(read_dataset(table(tmp_path, text_of(rows=rows)), task=several)) == {
        "melanoma+nevus": 1,
        "nevus": 1,
    }


# The task's card


def test_labels_are_spelt_as_the_card_has_them(tmp_path):
    rows = [(path, "MELANOMA" if label == "a" else "naevus") for path, label in ROWS]
    dataset = read_dataset(table(tmp_path, text_of(rows=rows)), task=SKIN)
    assert dataset.labels == ("melanoma", "nevus")


def test_labels_that_are_no_options_are_refused(tmp_path):
    for label in ("melanoma", "nevis"):
        pictures(tmp_path / label, "1.png", "2.png")
    with pytest.raises(ConfigurationError, match=r"'nevis' is not an option of.*did you mean 'nevus'"):
        read_dataset(tmp_path, task=SKIN)


def test_an_option_without_images_is_noted(tmp_path):
    pictures(tmp_path / "melanoma", "1.png", "2.png")
    assert "no image has the label nevus of task skin" in read_dataset(tmp_path, task=SKIN).table()


# Hugging Face, COCO, Label Studio


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("inside", [True, False])
def test_hugging_face_image_folders(tmp_path, kind, inside):
    def content(rows: list[tuple[str, str]]) -> str:
        if kind == "csv":
            return "file_name,label\n" + "".join(f"{name},{label}\n" for name, label in rows)
        return "".join(
            json.dumps({"file_name": name, "label": label, "text": "x"}) + "\n" for name, label in rows
        )

    for split in ("train", "test"):
        pictures(tmp_path / split, "1.png", "2.png")
        if inside:
            (tmp_path / split / f"metadata.{kind}").write_text(
                content([("1.png", "a"), ("2.png", "b")]), encoding="utf-8"
            )
    if not inside:
        rows = [
            (f"{split}/{n}.png", label) for split in ("train", "test") for n, label in ((1, "a"), (2, "b"))
        ]
        (tmp_path / f"metadata.{kind}").write_text(content(rows), encoding="utf-8")
    dataset = read_dataset(tmp_path)
    assert splits(dataset) == {"train": 2, "test": 2}
    assert labels(dataset) == {"a": 2, "b": 2}
    assert "Hugging Face" in dataset.table()


def coco(names: list[str], several: bool = False) -> dict:
    annotations = [{"image_id": n, "category_id": 1 + n % 2, "bbox": [0, 0, 1, 1]} for n in range(len(names))]
    annotations += [{"image_id": 0, "category_id": 1}] + (
        [{"image_id": 0, "category_id": 2}] if several else []
    )
    return {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }


@pytest.mark.parametrize("style", ["roboflow", "cocodataset"])
def test_coco(tmp_path, style):
    for split in ("train", "val"):
        names = [f"{split}{n}.jpg" for n in range(4)]
        images = tmp_path / (split if style == "roboflow" else f"{split}2017")
        place = (
            images / "_annotations.coco.json"
            if style == "roboflow"
            else tmp_path / f"annotations/instances_{split}.json"
        )
        pictures(images, *names)
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(coco(names)), encoding="utf-8")
    dataset = read_dataset(tmp_path)
    assert splits(dataset) == {"train": 4, "val": 4}
    assert labels(dataset) == {"a": 4, "b": 4}
    assert not dataset.multilabel


def test_coco_with_several_labels_per_image(tmp_path):
    pictures(tmp_path, *(f"{n}.jpg" for n in range(4)))
    (tmp_path / "x.json").write_text(
        json.dumps(coco([f"{n}.jpg" for n in range(4)], several=True)), encoding="utf-8"
    )
    dataset = read_dataset(tmp_path / "x.json")
    assert dataset.multilabel
    assert labels(dataset) == {"a+b": 1, "b": 2, "a": 1}
    with pytest.raises(ConfigurationError, match="task asks for one"):
        read_dataset(tmp_path / "x.json", multilabel=False)


def label_studio(short: bool, second: str = "a") -> list:
    tasks = []
    for number, label in enumerate(["a", "b", second]):
        image = f"/data/upload/1/{number:08x}-{number}.png"
        if short:
            tasks.append({"image": image, "choice": label, "annotation_id": number})
        else:
            result = [{"type": "choices", "value": {"choices": [label]}}]
            tasks.append({"data": {"image": image}, "annotations": [{"result": result}]})
    return tasks


@pytest.mark.parametrize("short", [True, False])
@pytest.mark.parametrize("prefixed", [True, False])
def test_label_studio(tmp_path, short, prefixed):
    for number in range(3):
        picture(tmp_path / "images" / (f"{number:08x}-{number}.png" if prefixed else f"{number}.png"))
    (tmp_path / "export.json").write_text(json.dumps(label_studio(short)), encoding="utf-8")
    for source in (tmp_path, tmp_path / "export.json"):
        assert labels(read_dataset(source)) == {"a": 2, "b": 1}


def test_label_studio_annotators_and_unlabelled_images(tmp_path):
    pictures(tmp_path, "0.png", "1.png", "2.png", "3.png")
    tasks = label_studio(False)
    tasks.append({"data": {"image": "/data/local-files/?d=set/3.png"}, "annotations": [{"result": []}]})
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    assert "left out 1: without a label, for example set/3.png" in read_dataset(path).table()
    tasks[0]["annotations"].append({"result": [{"value": {"choices": ["b"]}}]})
    path.write_text(json.dumps(tasks), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"annotators disagree about .*a or b"):
        read_dataset(path)
    tasks[0]["annotations"][1]["was_cancelled"] = True
    path.write_text(json.dumps(tasks), encoding="utf-8")
    assert len(read_dataset(path).items) == 3


def test_other_json_is_refused(tmp_path):
    for content in ("{}", "[]", '{"images": []}', "no json"):
        (tmp_path / "x.json").write_text(content, encoding="utf-8")
        with pytest.raises(ConfigurationError, match=r"x\.json"):
            read_dataset(tmp_path / "x.json")


# Patients of DICOM files


def test_dicom_files_of_a_patient_stay_together_under_a_hashed_name(tmp_path):
    from ..dicom_files import dataset as made
    from ..dicom_files import written

    for number in range(12):
        one = made(np.full((4, 4), number, np.uint8))
        one.PatientID = f"SECRET{number // 4}"
        place = tmp_path / "ab"[number % 2] / (f"IM{number}" if number % 3 else f"{number}.dcm")
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(written(one))
    dataset = read_dataset(tmp_path)
    assert len({item.group for item in dataset.items}) == 3
    assert not any("SECRET" in item.group for item in dataset.items)
    assert "patient number in the DICOM header, hashed" in dataset.table()
    assert read_dataset(tmp_path).sha256 == dataset.sha256


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Training", "train"),
        ("val", "val"),
        ("validation_set", "val"),
        ("train2017", "train"),
        ("TEST", "test"),
        ("test_images", "test"),
        ("dev", "val"),
        ("train_test", None),
        ("chest", None),
        ("attest", None),
        ("", None),
    ],
)
def test_names_of_splits(name, split):
    assert split_named(name) == split
