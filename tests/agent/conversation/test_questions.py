"""Questions in five languages over twelve cases: every stated fact is the record's, and the answer fits."""

from __future__ import annotations

import re
import tomllib
from itertools import cycle, islice
from pathlib import Path

import pytest
from gsco import GSCo
from gsco.case import ReviewDecision
from gsco.graphs.explanation.answer import ASKABLE, HONEST, SEND
from gsco.graphs.explanation.question import PHRASINGS
from gsco.models.mini.samples import samples

from .facts import faults, is_plain

QUESTIONS = [
    (text, tuple(group["topics"]), group.get("task"))
    for group in tomllib.loads(Path(__file__).with_name("questions.toml").read_text("utf-8"))["questions"]
    for text in group["texts"]
]
TASKS = ("busi", "chest_xray", "brain_mri", "lung_histology")
CASES = [(task, number) for task in TASKS for number in (0, 2, 4)]
PER_CASE = 30
MARKS = {
    "decision": r"diagnosed as|looks most like|decided that|rejected",
    "confidence": r"probability|has no probability",
    "why": r"specialists? .*say|similar known case",
    "why_not": r"probability of|That is the decision|options of this task",
    "alternatives": r"options by probability",
    "specialists": r"says .* with \d|specialists? say",
    "disagreement": r"agree with the decision|The decision is .* but",
    "similar": r"most similar known case",
    "counter_example": r"counter-example|closest known case with another label",
    "location": r"looked mostly at|no finding to locate|In no place|cannot be said",
    "review": r"[Pp]erson",
    "report": r"Findings: [\s\S]*Impression: ",
    "modality": r"was read as",
    "accuracy": r"balanced accuracy|were right",
    "provenance": r"was made by a program",
    "compare": r"only one image here to compare",
    "capabilities": r"kinds of images that can be diagnosed",
    "greeting": r"^Hello\.",
    "thanks": r"^You are welcome",
    "other": re.escape(HONEST),
}


@pytest.fixture(scope="module")
def gsco(tmp_path_factory):
    with GSCo.from_settings(home=tmp_path_factory.mktemp("home"), torch_threads=1) as made:
        yield made


def fitting(task: str, start: int) -> list[tuple[str, tuple[str, ...]]]:
    """A share of the questions that fit a case, another one for each start."""
    fit = [(text, topics) for text, topics, only in QUESTIONS if only in (None, task)]
    shift = start * PER_CASE * 7 % len(fit)
    own = [(text, topics) for text, topics, only in QUESTIONS if only == task]
    return [*own, *islice(cycle(fit), shift, shift + PER_CASE - len(own))]


def on_topic(answer: str, topics: tuple[str, ...]) -> bool:
    return any(re.search(MARKS[topic], answer) for topic in topics)


def test_there_are_enough_questions_and_none_is_a_line_that_the_model_is_fitted_on():
    fitted = {
        text for texts in tomllib.loads(PHRASINGS.read_text("utf-8"))["questions"].values() for text in texts
    }
    assert len({text for text, _, _ in QUESTIONS}) >= 150
    assert not {text for text, _, _ in QUESTIONS} & fitted
    asked = {text for place, (task, _) in enumerate(CASES) for text, _ in fitting(task, place)}
    assert asked == {text for text, _, _ in QUESTIONS}, "each is asked of some case"


def test_what_is_said_is_on_record_and_on_topic(gsco):
    missed, wrong, count = [], [], 0
    constants = abilities(gsco)
    for place, (task, number) in enumerate(CASES):
        consultation = gsco.consult(f"case-{place}")
        first = consultation.send("What is the diagnosis?", [samples(task)[number].path])
        assert first.diagnosis is not None and first.diagnosis.task == task
        answers = [("What is the diagnosis?", ("decision",), first.text)]
        for text, topics in fitting(task, place):
            answers.append((text, topics, consultation.send(text).text))
        for text, topics, answer in answers:
            count += 1
            wrong += [(task, text, fault, answer) for fault in faults(answer, [first.diagnosis], constants)]
            wrong += [] if is_plain(answer) else [(task, text, "markup or a fragment", answer)]
            missed += [] if on_topic(answer, topics) else [(task, text, topics, answer)]
    assert count >= 150 and wrong == []
    assert len(missed) <= 0.05 * count, missed


def test_the_check_finds_what_is_not_on_record(gsco):
    consultation = gsco.consult(keep=False)
    diagnosis = consultation.send("What is the diagnosis?", [samples("busi")[2].path]).diagnosis
    answers = [consultation.send(question).text for question in ("Why?", "What did the specialists say?")]
    assert [faults(answer, [diagnosis]) for answer in answers] == [[], []]
    right, (first, *_) = diagnosis.label, diagnosis.evidence.opinions
    other = next(label for label in diagnosis.probabilities if label not in (right, *first.labels))
    changes = [
        (0, f"is diagnosed as {right}", f"is diagnosed as {other}"),
        (0, "most similar known case is", f"most similar known case is {other} (similarity 0.99). It is"),
        (0, f"({first.specialist})", "(nobody)"),
        (1, f"{first.specialist} says {first.labels[0]}", f"{first.specialist} says {other}"),
        (1, "%.", "1%."),
    ]
    for which, before, after in changes:
        assert before in answers[which], (before, answers[which])
        assert faults(answers[which].replace(before, after, 1), [diagnosis]), (before, after)
    assert not is_plain('"}}</tool_call>') and not is_plain("m: pneumonia 97%;")
    assert faults("m: pneumonia 97%;", [diagnosis])


@pytest.mark.parametrize("action", ["approve", "edit", "reject"])
def test_after_a_review(tmp_path, action):
    with GSCo.from_settings(home=tmp_path, torch_threads=1, review="always") as gsco:
        consultation = gsco.consult("a")
        asked = consultation.send("What is the diagnosis?", [samples("busi")[2].path])
        proposed = asked.diagnosis.label
        other = "malignant" if proposed != "malignant" else "benign"
        given = {"edit": {"reason": "biopsy", "labels": (other,)}, "reject": {"reason": "blurred"}}
        turn = consultation.resume(ReviewDecision(action=action, reviewer="ana", **given.get(action, {})))
        record = turn.diagnosis
        for text, topics in fitting("busi", 3):
            answer = consultation.send(text).text
            assert faults(answer, [record], abilities(gsco)) == [] and is_plain(answer), (text, answer)
            if "decision" in topics or "confidence" in topics:
                assert {"approve": proposed, "edit": other, "reject": "rejected"}[action] in answer, (
                    text,
                    answer,
                )
            if action != "approve":
                assert not re.search(rf"diagnosed as {proposed}", answer), (text, answer)


def test_without_an_image_and_with_one_of_no_kind(gsco):
    import numpy as np
    from PIL import Image

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    strange = gsco.consult("noise")
    assert "was not diagnosed. It is nearest to" in strange.send("What is the diagnosis?", [noise]).text
    for text, topics, _ in QUESTIONS:
        if set(topics) & {"capabilities", "greeting", "thanks", "other", "compare", "provenance"}:
            continue
        bare = gsco.consult(keep=False).send(text).text
        assert bare.startswith("There is no image in this conversation") and is_plain(bare), (text, bare)
    for text in ("How sure are you?", "Was sagen die Spezialisten?", "显示相似病例"):
        answer = strange.send(text).text
        assert "was not diagnosed" in answer and "similar known case" not in answer, answer


def abilities(gsco: GSCo) -> tuple[str, ...]:
    """Sentences that are about gsco and no case."""
    said = gsco.consult(keep=False).send("What can you do?").text
    return (*(one for one in re.split(r"(?<=[.)])\s(?=[A-Z])", said)), ASKABLE, HONEST, SEND)
