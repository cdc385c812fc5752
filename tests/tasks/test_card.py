import json
from pathlib import Path

import pytest
from gsco.case import Task, TaskKind
from gsco.errors import TaskError
from gsco.tasks import load_task

CARD = """
name = "retina"
kind = "multilabel_diagnosis"
title = "Retina"
modality = "OCT"
options = ["none", "oedema", "drusen"]
negative = "none"
abstain_below = 0.7
licence = "CC0"
[aliases]
oedema = ["edema", "macular oedema"]
"""


def card(folder: Path, text: str | bytes, name: str = "retina.toml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_toml_card(tmp_path):
    task = load_task(card(tmp_path, CARD))
    assert task.kind is TaskKind.MULTILABEL
    assert task.options == ("none", "oedema", "drusen")
    assert task.aliases["oedema"] == ("edema", "macular oedema")
    assert (task.negative, task.abstain_below, task.licence) == ("none", 0.7, "CC0")


def test_a_json_card_says_the_same(tmp_path):
    task = load_task(card(tmp_path, CARD))
    assert load_task(str(card(tmp_path, task.model_dump_json(), "retina.json"))) == task


def test_a_byte_order_mark_is_no_matter(tmp_path):
    assert load_task(card(tmp_path, CARD.encode("utf-8-sig"))).name == "retina"


def test_only_a_name_and_a_modality_for_an_open_task(tmp_path):
    task = load_task(card(tmp_path, 'name = "ask"\nkind = "question_answering"\nmodality = "radiology"'))
    assert task == Task(name="ask", kind=TaskKind.QUESTION, modality="radiology")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('options = ["a"]', "at least two options"),
        ('options = ["a", "A"]', "differ"),
        ('options = ["a", "b, c"]', "comma"),
        ('options = ["a", "b"]\nabstain_below = 1.5', "abstain_below: "),
        ('options = ["a", "b"]\nabstain_below = "0.5"', "abstain_below: "),
        ('options = ["a", "b"]\nnegative = "c"', "negative"),
        ('options = ["a", "b"]\naliases = {c = ["d"]}', "aliases"),
        ('options = "a"', "options: "),
        ("options = [1, 2]", "options.0: "),
        ('options = ["a", "b"]\nkind = "guess"', "kind: "),
        ('options = ["a", "b"]\nmodalty = "x"', "modalty: "),
        ('options = ["a", "b"]\noverride = "yes"', "override: "),
        ('options = ["a", "b"]\nversion = 2024-01-01', "date"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(tmp_path, line, told):
    path = card(tmp_path, f'name = "x"\nmodality = "y"\n{line}\n')
    with pytest.raises(TaskError) as caught:
        load_task(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize("field", ["name", "modality"])
def test_a_missing_field_is_named(tmp_path, field):
    fields = {"name": "x", "modality": "y", "options": ["a", "b"]}
    del fields[field]
    with pytest.raises(TaskError, match=f"{field}: "):
        load_task(card(tmp_path, json.dumps(fields), "x.json"))


@pytest.mark.parametrize("name", ["Chest X-ray", "chest/xray", "", "../x", "-x"])
def test_a_name_is_a_plain_word(tmp_path, name):
    with pytest.raises(TaskError, match="name: "):
        load_task(
            card(tmp_path, json.dumps({"name": name, "modality": "y", "options": ["a", "b"]}), "x.json")
        )


def test_every_problem_is_told_at_once(tmp_path):
    with pytest.raises(TaskError) as caught:
        load_task(card(tmp_path, 'name = "X"\nabstain_below = 3'))
    assert all(field in str(caught.value) for field in ("name: ", "modality: ", "abstain_below: "))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.toml", "name = ", "not valid TOML"),
        ("x.json", "{", "not valid JSON"),
        ("x.json", "[1]", "fields"),
        ("x.json", "[" * 100_000, "not valid JSON"),
        ("x.toml", b"\xff\xfe", "UTF-8"),
        ("x.toml", b"#" * (2**20 + 1), "larger"),
        ("x.yaml", CARD, "must end in"),
    ],
)
def test_a_file_that_is_no_card(tmp_path, name, content, told):
    with pytest.raises(TaskError, match=told):
        load_task(card(tmp_path, content, name))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(TaskError, match=r"none\.toml: cannot be read"):
        load_task(tmp_path / "none.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(TaskError, match="cannot be read"):
        load_task(tmp_path / "folder.toml")
