"""Questions in five languages over twelve cases: every stated fact is the record's, and the answer fits."""

from __future__ import annotations

import asyncio
import html
import re
import tomllib
from pathlib import Path

import httpx
import pytest
from gsco import GSCo
from gsco.agent.page.session import ChatSession
from gsco.agent.page.upload_store import UploadStore
from gsco.agent.server.markdown import FOOTER
from gsco.case import ImageRef, ReviewDecision
from gsco.graphs.explanation.answer import ASKABLE, HONEST, SEND
from gsco.graphs.explanation.question import PHRASINGS
from gsco.models.mini.samples import samples
from PIL import Image

from ..server.conftest import data_uri, served
from .facts import faults, is_plain

QUESTIONS = [
    (text, tuple(group["topics"]), group.get("task"))
    for group in tomllib.loads(Path(__file__).with_name("questions.toml").read_text("utf-8"))["questions"]
    for text in group["texts"]
]
TASKS = ("busi", "chest_xray", "brain_mri", "lung_histology")
CASES = [(task, number) for task in TASKS for number in (0, 2, 4)]
MARKS = {
    "decision": r"^[\w -]* (?:is diagnosed as|looks most like)|decided that|rejected",
    "confidence": r"probability|has no probability",
    "why": r"specialists? .*say|similar known case",
    "why_not": r"probability of|options of this task|diagnosed as",
    "alternatives": r"options by probability",
    "specialists": r"says .* with \d|specialists? say",
    "disagreement": r"agree with the decision|The decision is .* but",
    "similar": r"most similar known case",
    "counter_example": r"counter-example|closest known case with another label",
    "location": r"looked mostly at the|no finding to locate|In no place|cannot be said",
    "review": r"[Pp]erson",
    "report": r"Findings: [\s\S]*Impression: ",
    "modality": r"was read as",
    "accuracy": r"balanced accuracy of the specialists",
    "provenance": r"was made by a program",
    "compare": r"only one image here to compare",
    "capabilities": r"kinds of images that can be diagnosed",
    "greeting": r"^Hello\.",
    "thanks": r"^You are welcome",
    "other": re.escape(HONEST),
}


EVERY = 8
"""The page and the API are asked every eighth question, half a minute each; with 1, all of them."""
FIRST = "What is the diagnosis?"


@pytest.fixture(scope="module")
def gsco(bundled):
    return bundled


@pytest.fixture(scope="module")
def conversations(gsco):
    """``conversations(place)``: one with a case that is diagnosed, and the diagnosis."""
    begun = {}

    def of(place):
        if place not in begun:
            consultation = gsco.consult(f"case-{place}")
            begun[place] = consultation, consultation.send(FIRST, [path_of(place)]).diagnosis
        return begun[place]

    return of


def path_of(place: int) -> Path:
    task, number = CASES[place]
    return samples(task)[number].path


class Page:
    """The page's own conversations of one visitor."""

    def __init__(self, gsco: GSCo, folder: Path) -> None:
        self.session = ChatSession(gsco, UploadStore(folder))

    def say(self, thread: str, text: str, images: list[ImageRef]) -> str:
        return self.last(self.session.take_turn("ana", thread, text, images))

    def last(self, shown) -> str:
        """The words of the last answer, as a browser shows them."""

        async def run():
            return [each async for each in shown]

        update = asyncio.run(run())[-1]
        assert update.over and not update.alert, update.alert
        words = [one.words for one in update.bubbles if one.role == "assistant" and one.words]
        return html.unescape(re.sub(r"<br ?/?>", "\n", words[-1])) if words else ""


def opening(path: Path) -> dict:
    image = {"type": "image_url", "image_url": {"url": data_uri(Image.open(path))}}
    return {"role": "user", "content": [{"type": "text", "text": FIRST}, image]}


def posted(address: str, messages: list[dict], **more) -> str:
    """The words of an answer, without the record below them."""
    body = {"model": "gsco", "messages": messages, **more}
    answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    words, _, _ = answer.json()["choices"][0]["message"]["content"].partition(FOOTER)
    return words.strip().removesuffix("---").strip()


def fitting(task: str) -> list[tuple[str, tuple[str, ...]]]:
    """The questions that fit images of a task."""
    return [(text, topics) for text, topics, only in QUESTIONS if only in (None, task)]


def assigned() -> list[tuple[int, str, tuple[str, ...]]]:
    """Every question with the place of a case that it fits, in the order of the cases."""
    each = []
    for number, (text, topics, only) in enumerate(QUESTIONS):
        fit = [place for place, (task, _) in enumerate(CASES) if only in (None, task)]
        each.append((fit[number % len(fit)], text, topics))
    return sorted(each, key=lambda one: one[0])


def on_topic(answer: str, topics: tuple[str, ...]) -> bool:
    return any(re.search(MARKS[topic], answer) for topic in topics)


def test_there_are_enough_questions_and_none_is_a_line_that_the_model_is_fitted_on():
    fitted = {
        text for texts in tomllib.loads(PHRASINGS.read_text("utf-8"))["questions"].values() for text in texts
    }
    assert len({text for text, _, _ in QUESTIONS}) >= 150
    assert not {text for text, _, _ in QUESTIONS} & fitted
    assert {place for place, _, _ in assigned()} == set(range(len(CASES)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_said_is_on_record_and_on_topic(gsco, conversations):
    missed, wrong, count = [], [], 0
    constants = abilities(gsco)
    firsts = [(place, FIRST, ("decision",)) for place in range(len(CASES))]
    for place, text, topics in [*firsts, *assigned()]:
        (task, _), (consultation, diagnosis) = CASES[place], conversations(place)
        assert diagnosis is not None and diagnosis.task == task
        answer = consultation.send(text).text
        count += 1
        wrong += [(task, text, fault, answer) for fault in faults(answer, [diagnosis], constants)]
        wrong += [] if is_plain(answer) else [(task, text, "markup or a fragment", answer)]
        missed += [] if on_topic(answer, topics) else [(task, text, topics, answer)]
    print(f"{count} questions, {1 - len(missed) / count:.1%} on topic")
    assert count >= 150 and wrong == []
    assert len(missed) <= 0.05 * count, missed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_says_the_same(gsco, conversations, tmp_path):
    page, shown = Page(gsco, tmp_path), set()
    for place, text, _ in assigned()[::EVERY]:
        if place not in shown:
            page.say(f"page-{place}", FIRST, [gsco.images.put(path_of(place))])
            shown.add(place)
        assert page.say(f"page-{place}", text, []) == conversations(place)[0].send(text).text, text


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kept", ["in a thread", "by the client"])
def test_the_api_says_the_same(gsco, bundled_address, conversations, kept):
    firsts = {}
    for place, text, _ in assigned()[::EVERY]:
        more = {"metadata": {"thread": f"api-{place}"}} if kept == "in a thread" else {}
        first = opening(path_of(place))
        if place not in firsts:
            firsts[place] = posted(bundled_address, [first], **more)
        before = [] if more else [first, {"role": "assistant", "content": firsts[place]}]
        answer = posted(bundled_address, [*before, {"role": "user", "content": text}], **more)
        assert answer == conversations(place)[0].send(text).text, text


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
        (0, "(Specialist 1)", "(Specialist 9)"),
        (0, "Specialist 1", first.specialist),
        (1, f"Specialist 1 says {first.labels[0]}", f"Specialist 1 says {other}"),
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
        about_decision = 0
        for text, topics in fitting("busi")[::12]:
            answer = consultation.send(text).text
            assert faults(answer, [record], abilities(gsco)) == [] and is_plain(answer), (text, answer)
            if set(topics) <= {"decision", "confidence"}:
                about_decision += 1
                assert {"approve": proposed, "edit": other, "reject": "rejected"}[action] in answer, (
                    text,
                    answer,
                )
            if action != "approve":
                assert not re.search(rf"diagnosed as {proposed}", answer), (text, answer)
        assert about_decision >= 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_after_a_review_page_and_api_say_the_same(tmp_path):
    decision = {"action": "edit", "reviewer": "ana", "reason": "biopsy", "labels": ["malignant"]}
    edit, path = ReviewDecision.model_validate(decision), samples("busi")[2].path
    with GSCo.from_settings(home=tmp_path, torch_threads=1, review="always") as gsco, served(gsco) as address:
        consultation, page = gsco.consult("a"), Page(gsco, tmp_path / "uploads")
        assert consultation.send(FIRST, [path]).diagnosis.label == "benign"
        page.say("p", FIRST, [gsco.images.put(path)])
        posted(address, [opening(path)], metadata={"thread": "t"})
        consultation.resume(edit)
        page.last(page.session.decided("ana", "p", edit))
        httpx.post(f"{address}/v1/threads/t/decision", json=decision, timeout=120).raise_for_status()
        for text, _ in fitting("busi")[::30]:
            answer = consultation.send(text).text
            assert not re.search("diagnosed as benign", answer), (text, answer)
            assert page.say("p", text, []) == answer, text
            said = {"role": "user", "content": text}
            assert posted(address, [said], metadata={"thread": "t"}) == answer, text


def test_without_an_image_and_with_one_of_no_kind(gsco):
    import numpy as np
    from PIL import Image

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    strange = gsco.consult("noise")
    assert "was not diagnosed. It is nearest to" in strange.send("What is the diagnosis?", [noise]).text
    bare = gsco.consult("bare")
    of_record = [
        text
        for text, topics, _ in QUESTIONS
        if not set(topics) & {"capabilities", "greeting", "thanks", "other", "compare", "provenance"}
    ]
    answers = {text: bare.send(text).text for text in of_record[::3]}
    assert all(is_plain(answer) and "%" not in answer for answer in answers.values())
    other = [text for text, one in answers.items() if not one.startswith("There is no image in this")]
    assert len(other) <= 0.05 * len(answers), other
    for text in ("How sure are you?", "Was sagen die Spezialisten?", "显示相似病例"):
        answer = strange.send(text).text
        assert "was not diagnosed" in answer and "similar known case" not in answer, answer


def abilities(gsco: GSCo) -> tuple[str, ...]:
    """Sentences that are about gsco and no case."""
    said = gsco.consult(keep=False).send("What can you do?").text
    return (*(one for one in re.split(r"(?<=[.)])\s(?=[A-Z])", said)), ASKABLE, HONEST, SEND)
