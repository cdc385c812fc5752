"""Questions with known answers, and reports that claim nothing beyond their label."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from gsco.case import Task
from gsco.errors import ConfigurationError
from gsco.models.generalist.prompts import PROFILES
from gsco.models.generalist.training.example import ImageView, Scene
from gsco.models.generalist.training.questions import ask_about, draw_questions, read_questions
from gsco.models.generalist.training.reports import draw_report, report

from .toys import make_data, toy_config

PAPER = PROFILES["paper"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = make_data(tmp_path)
    records = [
        {"question": "Is it bright? ", "answer": "Yes", "image_name": "train0.png"},
        {"question": "How bright?", "answer": "very", "image_name": "train0.png"},
        {"question": "Is it dark?", "answer": "YES", "image_name": "train2.png"},
    ]
    (folder / "asked.json").write_text(json.dumps(records))
    return folder


def test_questions_of_a_file_keep_their_images(data: Path, tmp_path: Path) -> None:
    config = toy_config(data, tmp_path, questions=[{"folder": "toy", "file": "asked.json", "weight": 2}])
    (known,) = read_questions(config)
    assert [item.path.name for item in known.images.items] == ["train0.png", "train2.png"]
    assert [len(asked) for asked in known.asked] == [2, 1]
    assert known.asked[1][0].answer == "yes" and known.weight == 2 and known.images.pixels.shape[0] == 2
    prompts = draw_questions(np.random.default_rng(0), known, 5, 4, PAPER)
    assert len(prompts) == 4 and {prompt.view.source for prompt in prompts} == {5}
    assert all("images about radiology" in prompt.text for prompt in prompts)


def test_labels_answer_questions(data: Path, tmp_path: Path) -> None:
    shows = {"bright": ["photo", "sky"], "dark": ["drawing", "cave"]}
    given: dict[str, object] = {"folder": "toy", "shows": shows, "foreign": ["dark"]}
    (known,) = read_questions(toy_config(data, tmp_path, questions=[given]))
    labels = [item.labels[0] for item in known.images.items]
    assert len(labels) == 24 and labels == ["toy"] * 24  # the label is in the questions, not in the images
    answers = {frozenset(one.answer for one in asked) for asked in known.asked}
    assert answers == {frozenset({"photo", "sky", "yes", "no"}), frozenset({"drawing", "cave", "yes", "no"})}
    assert len(known.foreign) == 12
    assert all("drawing" in {one.answer for one in known.asked[place]} for place in known.foreign)
    with pytest.raises(ConfigurationError, match="dark"):
        read_questions(
            toy_config(data, tmp_path, questions=[{"folder": "toy", "shows": {"bright": ["a", "b"]}}])
        )


@pytest.mark.parametrize(
    "content", ["[{}]", "{", '[{"question": "a", "answer": "b", "image_name": "no.png"}]']
)
def test_a_wrong_file_is_named(data: Path, tmp_path: Path, content: str) -> None:
    (data / "asked.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"asked\.json|no\.png"):
        read_questions(toy_config(data, tmp_path, questions=[{"folder": "toy", "file": "asked.json"}]))


def test_a_question_that_the_prompt_answers_is_not_the_only_one() -> None:
    task = Task(name="fruit", modality="photo", options=("apple", "banana"))
    scene = Scene(task, task.options, 0, 0, ImageView(0, 0))
    made = [
        ask_about(np.random.default_rng(seed), scene, "apple", "fruit bowl", PAPER) for seed in range(200)
    ]
    answers = Counter(prompt.answer for prompt in made)
    assert set(answers) == {"photo", "apple", "yes", "no", "fruit bowl"}
    assert not any("photo" in prompt.text for prompt in made if prompt.answer == "photo")


def test_a_report_says_its_label_and_no_other() -> None:
    task = Task(name="chest", modality="X-ray", options=("normal", "pneumonia"))
    scene = Scene(task, task.options, 1, 0, ImageView(0, 0))
    prompt = draw_report(np.random.default_rng(0), scene, "pneumonia", (), (), PAPER)
    assert "report" in prompt.text and not prompt.options
    assert prompt.answer == "Findings: An X-ray with signs of pneumonia. Impression: pneumonia."
    assert report("brain MRI", "no tumor").startswith("Findings: A brain MRI without signs of disease.")
