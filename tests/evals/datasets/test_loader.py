"""Opening folders and files: what they are taken for, and what is said where something is wrong."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from gsco.case import Task, TaskKind
from gsco.errors import ConfigurationError, TaskUnknown
from gsco.evals.datasets import open_dataset
from gsco.evals.datasets.entry import Dicom, TableLayout
from gsco.evals.datasets.rows import read_rows

from .layouts import arrays, draw, lists, table

EYES = Task(name="eyes", modality="fundus", options=("healthy", "ill"), aliases={"ill": ("sick",)})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSCO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GSCO_DATASETS", raising=False)


def labelled(folder: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    table(folder / "labels.csv", ("path", "label", "group", "split"), rows)
    for number, row in enumerate(rows):
        draw(folder / row[0], seed=number)
    return folder


def test_a_folder_with_a_table_is_opened_by_split(tmp_path: Path) -> None:
    folder = labelled(
        tmp_path / "eyes",
        [("a.png", "Healthy", "1", "train"), ("b.png", "sick", "2", "test"), ("c.png", "ill", "3", "test")],
    )
    opened = open_dataset(folder, task=EYES)
    assert [(one.id, one.labels) for one in opened] == [("b.png", ("ill",)), ("c.png", ("ill",))]
    assert opened.counts == {"train": 1, "test": 2} and opened.name == "eyes"
    assert len(open_dataset(folder, task=EYES, split="all")) == 3


def test_the_hash_tells_another_truth_and_another_picture(tmp_path: Path) -> None:
    rows = [("a.png", "healthy", "1", "test"), ("b.png", "ill", "2", "test")]
    first = open_dataset(labelled(tmp_path / "one" / "eyes", rows), task=EYES)
    moved = open_dataset(labelled(tmp_path / "two" / "eyes", rows), task=EYES)
    other = open_dataset(
        labelled(tmp_path / "three" / "eyes", [rows[0], ("b.png", "healthy", "2", "test")]), task=EYES
    )
    assert first.sha256 == moved.sha256 != other.sha256
    draw(tmp_path / "two" / "eyes" / "a.png", seed=9)
    assert open_dataset(tmp_path / "two" / "eyes", task=EYES).sha256 != first.sha256


def test_a_class_per_folder_gets_drawn_splits(tmp_path: Path) -> None:
    for number in range(20):
        draw(tmp_path / "set" / ("healthy" if number % 2 else "ill") / f"{number}.png", seed=number)
    opened = open_dataset(tmp_path / "set", task=EYES, split="all")
    assert sum(opened.counts.values()) == 20 and set(opened.counts) == {"train", "val", "test"}


def test_arrays_are_unpacked_once(tmp_path: Path) -> None:
    arrays(tmp_path / "breastmnist.npz", 2)
    task = Task(name="breast", modality="ultrasound", options=("malignant", "normal or benign"))
    opened = open_dataset(tmp_path / "breastmnist.npz", task=task)
    assert opened.labels() == {"malignant": 2, "normal or benign": 2} and len(opened) == 4
    before = opened[0].images[0].stat().st_mtime_ns
    assert open_dataset(tmp_path / "breastmnist.npz", task=task)[0].images[0].stat().st_mtime_ns == before


@pytest.mark.parametrize("file", ["chestmnist.npz", "chestmnist_64.npz"])
def test_multilabel_arrays_by_name(tmp_path: Path, file: str) -> None:
    arrays(tmp_path / "chestmnist" / file, 14, several=True, size=64 if "64" in file else 28)
    opened = open_dataset("chestmnist", root=tmp_path, partial=True)
    assert opened.task.kind is TaskKind.MULTILABEL and len(opened.task.options) == 14
    assert any(len(one.labels) > 1 for one in opened)
    assert any("of 22433 examples of test" in note for note in opened.notes)


def test_the_reference_meta_format_is_recognised(tmp_path: Path) -> None:
    lists(
        tmp_path / "set" / "meta.json",
        [{"image": "a.png", "label": "ill", "rad": ["ill"], "moed": ["healthy", "ill"], "split": "test"}],
    )
    draw(tmp_path / "set" / "images" / "a.png")
    one = open_dataset(tmp_path / "set", task=EYES)[0]
    assert one.labels == ("ill",) and one.extras == {"rad": "ill", "moed": "healthy|ill"}


def test_json_lines_of_questions_need_no_task(tmp_path: Path) -> None:
    rows = [
        {"question_id": 1, "image": "a.png", "question": "What?", "answer": "bone", "split": "test"},
        {"question_id": 2, "image": "a.png", "question": "Is it?", "answer": "Yes", "split": "test"},
    ]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    draw(tmp_path / "a.png")
    opened = open_dataset(tmp_path / "asked.jsonl")
    assert opened.task.kind is TaskKind.QUESTION
    assert [(one.question, one.answers, one.closed) for one in opened] == [
        ("What?", ("bone",), False),
        ("Is it?", ("Yes",), True),
    ]


def test_reports_need_no_task(tmp_path: Path) -> None:
    lists(tmp_path / "r.json", [{"image": "a.png", "report": "Clear.", "split": "test", "patient_id": 7}])
    draw(tmp_path / "a.png")
    one = open_dataset(tmp_path / "r.json")[0]
    assert one.report == "Clear." and one.group == "7"


def test_conversations_give_one_example_per_answer_with_what_came_before(tmp_path: Path) -> None:
    turns = [("human", "<image>\nWhat is it?"), ("gpt", "A lung."), ("human", "Is it ill?"), ("gpt", "No.")]
    lists(
        tmp_path / "chat_test.json",
        [
            {
                "id": "x",
                "image": "a.png",
                "conversations": [{"from": who, "value": text} for who, text in turns],
            }
        ],
    )
    draw(tmp_path / "a.png")
    first, second = open_dataset(tmp_path / "chat_test.json")
    assert (first.question, first.answers, first.context) == ("What is it?", ("A lung.",), None)
    assert (second.question, second.answers) == ("Is it ill?", ("No.",))
    assert second.context == "What is it?\nA lung." and second.closed


def test_conversations_of_a_closed_task_are_labels(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<image>\nDiagnosis?"}, {"from": "gpt", "value": "ill"}]
    lists(tmp_path / "test.json", [{"id": 0, "image": "a.png", "conversations": turns}])
    draw(tmp_path / "a.png")
    assert open_dataset(tmp_path / "test.json", task=EYES)[0].labels == ("ill",)


def scan(path: Path, *, patient: str, study: str, number: int) -> None:
    import numpy as np
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
    found = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    found.SOPClassUID, found.SOPInstanceUID = meta.MediaStorageSOPClassUID, f"1.2.3.{number}"
    found.PatientID, found.StudyInstanceUID = patient, study
    found.SeriesInstanceUID = generate_uid(entropy_srcs=[str(number)])
    found.Modality, found.PhotometricInterpretation = "CT", "MONOCHROME2"
    found.Rows = found.Columns = 8
    found.SamplesPerPixel, found.BitsAllocated, found.BitsStored, found.HighBit = 1, 16, 12, 11
    found.PixelRepresentation = 0
    found.PixelData = (np.arange(64, dtype=np.uint16) * (number + 1)).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("column", ["StudyInstanceUID", "PatientID", "SOPInstanceUID", "path"])
def test_a_dicom_folder_is_labelled_by_any_identifier(tmp_path: Path, column: str) -> None:
    names = [f"study{number // 2}/IM{number}" for number in range(4)]
    for number, name in enumerate(names):
        scan(tmp_path / "ct" / name, patient=f"Doe{number // 2}", study=f"1.9.{number // 2}", number=number)
    keys = {
        "StudyInstanceUID": ["1.9.0", "1.9.1"],
        "PatientID": ["Doe0", "Doe1"],
        "SOPInstanceUID": [f"1.2.3.{number}" for number in range(4)],
        "path": names,
    }[column]
    labels = [("healthy", "ill")[place * 2 // len(keys)] for place in range(len(keys))]
    rows = [(key, label, "test") for key, label in zip(keys, labels, strict=True)]
    table(tmp_path / "ct" / "labels.csv", (column, "label", "split"), rows)
    layout = Dicom() if column == "path" else None
    opened = open_dataset(tmp_path / "ct", task=EYES, layout=layout)
    assert opened.labels() == {"healthy": 2, "ill": 2}
    assert len({one.group for one in opened}) == 2
    assert not any("Doe" in one.group for one in opened)


def test_a_dicom_folder_per_class_is_read_by_its_extension(tmp_path: Path) -> None:
    for number in range(6):
        name = f"{('healthy', 'ill')[number % 2]}/{number}.{('dcm', 'dicom')[number % 2]}"
        scan(tmp_path / "ct" / name, patient=f"{number}", study=f"1.{number}", number=number)
    assert open_dataset(tmp_path / "ct", task=EYES, split="all").labels() == {"healthy": 3, "ill": 3}


def test_an_unknown_name_is_answered_with_near_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean pathmnist"):
        open_dataset("pathminst")
    with pytest.raises(ConfigurationError, match=r"set GSCO_DATASETS .* It is open \(CC BY 4.0\): https"):
        open_dataset("pathmnist")
    with pytest.raises(ConfigurationError, match=r"no folder slake or .* It is open"):
        open_dataset("slake", root=tmp_path)


def test_a_folder_of_the_name_without_its_files_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "slake").mkdir()
    lists(tmp_path / "slake" / "train.json", [])
    with pytest.raises(ConfigurationError, match=r"lacks validate\.json, test\.json, imgs"):
        open_dataset("slake", root=tmp_path)


def test_missing_images_are_counted_and_named(tmp_path: Path) -> None:
    lists(tmp_path / "t.json", [{"image": f"{n}.png", "label": "ill", "split": "test"} for n in range(5)])
    with pytest.raises(ConfigurationError, match=r"5 images of .* are missing, for example 0.png, 1.png"):
        open_dataset(tmp_path / "t.json", task=EYES)


def test_what_cannot_be_meant_is_an_error(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    rows = [{"image": "a.png", "label": "ill"}]
    lists(tmp_path / "t.json", rows)
    with pytest.raises(ConfigurationError, match="name the task that t is for: its labels are ill"):
        open_dataset(tmp_path / "t.json")
    with pytest.raises(TaskUnknown):
        open_dataset(tmp_path / "t.json", task="nothing")
    with pytest.raises(ConfigurationError, match="label 'ill' is not an option of task"):
        open_dataset(tmp_path / "t.json", task=Task(name="t", modality="m", options=("one", "two")))
    lists(tmp_path / "t.json", [{**rows[0], "split": "later"}])
    with pytest.raises(ConfigurationError, match="names the split 'later'"):
        open_dataset(tmp_path / "t.json", task=EYES)
    lists(tmp_path / "t.json", [{**rows[0], "split": "train"}])
    with pytest.raises(ConfigurationError, match="has no test examples"):
        open_dataset(tmp_path / "t.json", task=EYES)
    lists(tmp_path / "t.json", [{"image": "a.png"}])
    with pytest.raises(ConfigurationError, match="neither label, answer nor report"):
        open_dataset(tmp_path / "t.json", task=EYES)
    lists(tmp_path / "t.json", [{**rows[0], "split": "test"}] * 2)
    with pytest.raises(ConfigurationError, match=r"lists 'a.png' 2 times"):
        open_dataset(tmp_path / "t.json", task=EYES)


def test_a_table_of_ones_own_form_is_described(tmp_path: Path) -> None:
    table(tmp_path / "x.csv", ("file", "healthy", "ill", "who"), [("a", 0, 1, "p"), ("b", 1, 0, "q")])
    for name in "ab":
        draw(tmp_path / f"{name}.png", seed=ord(name))
    layout = TableLayout(
        files={"test": ("x.csv",)},
        image="{file}.png",
        group="{who}",
        marks={"healthy": "healthy", "ill": "ill"},
    )
    opened = open_dataset(tmp_path, task=EYES, layout=layout)
    assert [(one.labels, one.group) for one in opened] == [(("ill",), "p"), (("healthy",), "q")]
    wrong = layout.model_copy(update={"group": "{patient}"})
    with pytest.raises(ConfigurationError, match="no column 'patient', only file, healthy, ill, who"):
        open_dataset(tmp_path, task=EYES, layout=wrong)


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_a_pickle_that_needs_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([{"question": Evil()}]))
    with pytest.raises(ConfigurationError, match="could run code"):
        read_rows(tmp_path / "x.pkl")
    assert not capsys.readouterr().out


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.pkl"])
def test_a_damaged_table_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b'\x80\xff[{"a": ')
    with pytest.raises(ConfigurationError, match=f"cannot read the table .*{name}"):
        read_rows(tmp_path / name)
