import csv
import os
from pathlib import Path

import pytest
from gsco.case import TaskKind
from gsco.errors import TaskError, TaskUnknown
from gsco.tasks import TaskBook, builtin_tasks

OWN = 'name = "{name}"\nmodality = "OCT"\noptions = ["a", "b"]\n'

BUILTIN = {
    "brain_mri",
    "busi",
    "chest_xray",
    "chest_xray_report",
    "fundus_multilabel",
    "ham10000",
    "lung_histology",
    "modality",
    "pneumoniamnist",
    "vqa_rad",
}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "own.toml").write_text(OWN.format(name="own"))
    (tmp_path / "notes.txt").write_text("not a card")
    return tmp_path


def test_the_builtin_tasks():
    tasks = builtin_tasks()
    assert set(tasks) == BUILTIN
    assert all(name == task.name for name, task in tasks.items())
    assert {name for name, task in tasks.items() if task.kind is TaskKind.MULTILABEL} == {"fundus_multilabel"}
    assert {name for name, task in tasks.items() if not task.kind.closed} == {"vqa_rad", "chest_xray_report"}
    assert tasks["fundus_multilabel"].negative == "Normal"


@pytest.mark.parametrize("task", builtin_tasks().values(), ids=lambda task: task.name)
def test_a_builtin_card_is_complete(task):
    assert task.title and task.modality and task.licence and task.source
    assert not task.modality.casefold().endswith("image"), "prompts add that word"
    if not task.kind.closed:
        return
    assert set(task.aliases) == set(task.options)
    # One answer must not stand for two options.
    said = [name.casefold() for option in task.options for name in (option, *task.aliases[option])]
    assert len(said) == len(set(said))
    assert task.kind is TaskKind.MULTILABEL or task.abstain_below > 1 / len(task.options)


def test_a_caller_cannot_spoil_the_builtin_tasks():
    builtin_tasks().clear()
    assert set(builtin_tasks()) == BUILTIN


def test_a_book_of_the_builtin_tasks():
    book = TaskBook()
    assert book.names() == sorted(BUILTIN)
    assert [task.name for task in book] == book.names()
    assert len(book) == len(BUILTIN)
    assert "busi" in book
    assert book.get("busi").options == ("benign", "malignant", "normal")


def test_own_cards_are_added(folder):
    (folder / "other.json").write_text('{"name": "other", "modality": "CT", "options": ["x", "y"]}')
    book = TaskBook(folder)
    assert set(book.names()) == {*BUILTIN, "own", "other"}
    assert "own" not in TaskBook()


def test_an_unknown_name_lists_the_near_ones(folder):
    with pytest.raises(TaskUnknown, match="did you mean chest_xray"):
        TaskBook().get("chestxray")
    with pytest.raises(TaskUnknown, match="own"):
        TaskBook(folder).get("zzzzzz")


def test_two_own_cards_of_one_name_stop_that_task(folder):
    (folder / "same.toml").write_text(OWN.format(name="own"))
    book = TaskBook(folder)
    with pytest.raises(TaskError, match=r"same\.toml.*own\.toml"):
        book.get("own")
    assert book.names() == sorted(BUILTIN)


def test_a_builtin_name_must_be_overridden_on_purpose(folder):
    (folder / "busi.toml").write_text(OWN.format(name="busi"))
    book = TaskBook(folder)
    with pytest.raises(TaskError, match="override = true"):
        book.get("busi")
    assert "busi" not in book and "own" in book and "chest_xray" in book
    (folder / "busi.toml").write_text(OWN.format(name="busi") + "override = true\n")
    assert TaskBook(folder).get("busi").options == ("a", "b")
    assert TaskBook().get("busi").options == ("benign", "malignant", "normal")


@pytest.mark.attack
@pytest.mark.parametrize(
    ("name", "content", "stopped"),
    [
        ("bad.toml", b"name = 7", "bad"),
        ("bad.toml", b"\x00\xff\xfe", "bad"),
        ("bad.json", b"[" * 200_000, "bad"),
        ("bad.json", b'{"name": "worse", "modality": "CT", "options": []}', "worse"),
        ("bad.toml", b'name = "worse"\nmodality = "CT"\noptions = ["a", "a"]', "worse"),
        ("bad.toml", b'name = "busi"\noverride = "yes"\nmodality = "US"\noptions = ["a", "b"]', "busi"),
        ("bad.toml", b"#" * (2**20 + 1), "bad"),
    ],
)
def test_a_wrong_card_stops_only_its_task(folder, caplog, name, content, stopped):
    (folder / name).write_bytes(content)
    book = TaskBook(folder)
    assert set(book.names()) == ({*BUILTIN, "own"} - {stopped})
    assert list(book.wrong) == [stopped]
    assert stopped not in book
    for _ in range(2):
        with pytest.raises(TaskError, match=name.replace(".", r"\.")):
            book.get(stopped)
    assert name in caplog.text


@pytest.mark.attack
def test_a_card_that_never_ends_is_not_read(folder):
    os.mkfifo(folder / "pipe.toml")
    (folder / "zero.toml").symlink_to("/dev/zero")
    book = TaskBook(folder)
    assert set(book.wrong) == {"pipe", "zero"}
    assert "own" in book


def test_a_missing_folder_is_told(folder):
    with pytest.raises(TaskError, match="cannot be read"):
        TaskBook(folder / "none")


@pytest.mark.datasets
@pytest.mark.parametrize("name", sorted(BUILTIN - {"pneumoniamnist", "vqa_rad", "chest_xray_report"}))
def test_options_are_the_labels_of_the_data_set(name):
    folder = os.environ.get("GSCO_TEST_DATASETS")
    if not folder:
        pytest.skip("GSCO_TEST_DATASETS names no folder")
    with (Path(folder) / name / "labels.csv").open(encoding="utf-8", newline="") as file:
        labels = {label for row in csv.DictReader(file) for label in row["label"].split("+")}
    assert labels == set(builtin_tasks()[name].options)
