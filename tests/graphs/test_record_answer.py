"""A generalist that decides and calls functions, and whose answers are written from the record."""

from __future__ import annotations

import asyncio
import re

import pytest
from gsco import GSCo
from gsco.agent.assembly import LazyPanels
from gsco.agent.conversation_runner import PastConversation
from gsco.case import ReviewDecision
from gsco.graphs.events import Text, ToolStarted
from gsco.graphs.explanation.answer import HONEST
from gsco.images import ImageStore
from gsco.models.generalist.in_process import InProcessGeneralist
from gsco.models.generalist.messages import message
from gsco.tasks import TaskBook
from gsco.tools.stores.embedded import EmbeddedStore

from ..scripted import Scripted, call, calls

FRAGMENT = '"}}</tool_call> the.'
DIAGNOSE = calls(call("diagnose", task="shade"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return ImageStore(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def real(generalist_folder, images):
    return InProcessGeneralist.load(generalist_folder, images, device="cpu")


@pytest.fixture
def make(real, images, cards, specialist_folders, bank, tmp_path):
    made = []

    def gsco(said, **changes):
        generalist = Scripted(real, lambda messages: said)
        generalist.converses = False
        one = GSCo(
            tasks=TaskBook(cards),
            panels=LazyPanels([specialist_folders]),
            store=lambda: EmbeddedStore(bank, readonly=True),
            generalist=generalist,
            images=images,
            conversations=tmp_path / "conversations.sqlite",
            neighbours=4,
            **changes,
        )
        made.append(one)
        return one, generalist

    yield gsco
    for one in made:
        one.close()


def streamed(events) -> list:
    async def gather():
        return [event async for event in events]

    return asyncio.run(gather())


@pytest.mark.parametrize("said", [calls(call("diagnose", task="stripes")), FRAGMENT, DIAGNOSE])
def test_its_own_words_are_shown_to_nobody(make, pictures, said):
    gsco, generalist = make(said)
    consultation = gsco.consult("a")
    events = streamed(consultation.astream("Was ist das?", [pictures.stripes("lying", 72)]))
    final = events[-1]
    spoken = "".join(event.text for event in events if isinstance(event, Text))
    assert spoken == final.text and FRAGMENT not in final.text
    assert final.text.startswith(f"This striped square image is diagnosed as {final.diagnosis.label}, with a")
    assert len(generalist.asked) == 1, "it is asked for calls once"
    assert generalist.asked[0][0].text.endswith(". What is the diagnosis?"), "in the words that it knows"
    assert [one.text for one in consultation.history() if one.role == "assistant" and one.text] == [
        final.text
    ]


def test_a_follow_up_is_answered_from_the_record_without_the_generalist(make, pictures):
    gsco, generalist = make(DIAGNOSE)
    consultation = gsco.consult("a")
    diagnosis = consultation.send("What is this?", [pictures.shade("dark", 51)]).diagnosis
    turn = consultation.send("What did the specialists say?")
    for number, opinion in enumerate(diagnosis.evidence.opinions, start=1):
        label = opinion.labels[0]
        assert f"Specialist {number} says {label} with {opinion.probabilities[label]:.0%}." in turn.text
    assert turn.diagnosis is None and turn.notes == () and len(generalist.asked) == 1
    assert consultation.send("What is the capital of France?").text == HONEST


def test_without_an_image_it_says_so(make):
    gsco, generalist = make(FRAGMENT)
    for question in ("What is the diagnosis?", "Show similar cases", "Wer widerspricht?", "诊断是什么？"):
        assert gsco.consult().send(question).text.startswith("There is no image in this conversation")
    assert generalist.asked == []


def test_two_images_are_both_answered_and_compared(make, pictures):
    gsco, _ = make(DIAGNOSE)
    consultation = gsco.consult("a")
    turn = consultation.send("What are these?", [pictures.stripes("lying", 52), pictures.shade("dark", 53)])
    stripes, shade = turn.diagnoses
    first, second = turn.text.split("\n\n")
    assert first.startswith(f"Image 1 (striped square) is diagnosed as {stripes.label}")
    assert second.startswith(f"Image 2 (grey square) is diagnosed as {shade.label}")
    side, by_side, verdict = consultation.send("Compare both images").text.split("\n\n")
    assert side.startswith(f"Image 1 (striped square): {stripes.label}")
    assert by_side.startswith(f"Image 2 (grey square): {shade.label}") and "different kinds" in verdict
    assert consultation.send("How sure are you about the first image?").text.count("Image 2") == 0


def test_a_label_of_another_task_is_none_of_the_options(make, pictures):
    gsco, _ = make(DIAGNOSE)
    consultation = gsco.consult("a")
    consultation.send("What is this?", [pictures.shade("dark", 64)])
    for question in ("Why not lying?", "Could it be standing?"):
        assert "The options of this task are dark and bright" in consultation.send(question).text


def test_an_image_is_compared_with_the_one_that_is_named(make, pictures):
    gsco, _ = make(DIAGNOSE)
    consultation = gsco.consult("a")
    for number in (61, 62, 63):
        consultation.send("What is this?", [pictures.shade("dark" if number % 2 else "bright", number)])
    for question, compared in (
        ("What differs from the first image?", ["Image 1", "Image 3"]),
        ("Compare it with the second image", ["Image 2", "Image 3"]),
        ("What is the difference to the one before?", ["Image 2", "Image 3"]),
    ):
        answer = consultation.send(question).text
        assert re.findall(r"^Image \d", answer, re.MULTILINE) == compared, answer


def test_an_image_that_no_task_fits_is_told_of_in_words(make, pictures):
    gsco, _ = make(FRAGMENT)
    consultation = gsco.consult("a")
    turn = consultation.send("What is this?", [pictures.checks(1)])
    assert turn.diagnosis is None and turn.text.startswith("This image was not diagnosed. It is nearest to ")
    like = consultation.export().findings[-1].likeness
    assert f"It is nearest to {like.modality}: {like.share:.0%}" in turn.text
    assert f"similarity {like.similarity:.2f}" in turn.text
    assert "grey square (dark or bright)" in turn.text and "striped square (lying or standing)" in turn.text
    assert "not diagnosed" in consultation.send("Why?").text


@pytest.mark.parametrize("action", ["approve", "edit", "reject"])
def test_after_a_review_every_answer_is_the_persons_decision(make, pictures, action):
    gsco, _ = make(DIAGNOSE, review={"always"})
    consultation = gsco.consult("a")
    asked = consultation.send("What is this?", [pictures.shade("dark", 54)])
    proposed = asked.diagnosis.label
    assert asked.text == "", "not a word before the review"
    other = "bright" if proposed == "dark" else "dark"
    why = {} if action == "approve" else {"reason": "biopsy"}
    labels = {"labels": (other,)} if action == "edit" else {}
    turn = consultation.resume(ReviewDecision(action=action, reviewer="ana", **why, **labels))
    again = consultation.send("So what is the diagnosis?")
    for text in (turn.text, again.text, consultation.send("Quel est le diagnostic ?").text):
        if action == "approve":
            assert f"is diagnosed as {proposed}" in text and "A person (ana) approved it." in text
        elif action == "edit":
            assert f"decided that this grey square image shows {other}." in text
            assert f"It replaces {proposed}, which was proposed." in text
            assert not re.search(rf"{proposed}\W+\d", text), "no share stands behind what was replaced"
        else:
            assert f"rejected {proposed}" in text and "There is no accepted diagnosis." in text
    assert "ana" in consultation.send("Who reviewed it?").text
    disagreement, others = consultation.send("Who disagrees?").text, consultation.send("What else?").text
    counter_example = consultation.send("Is there a counter-example?").text
    if action == "reject":
        assert "decision" not in disagreement and "rejected proposal" in disagreement
        assert "measured answers" not in consultation.send("How accurate are you?").text
    if action == "edit":
        assert f"with another label is {other}" not in counter_example
    assert others.startswith("The options by" if action == "approve" else "A person (ana)"), others


def test_a_conversation_that_is_resent_is_answered_from_evidence_gathered_anew(make, pictures, images):
    gsco, generalist = make(DIAGNOSE)
    ref = images.put(pictures.stripes("lying", 72))
    before = (message("human", "What is this?", [ref.id]), message("ai", "It is dark."))
    earlier = PastConversation(messages=before, images=(ref,))

    def ask(question):
        return streamed(gsco.consult(keep=False).astream(question, earlier=earlier))

    events = ask("What did the specialists say?")
    assert [event.name for event in events if isinstance(event, ToolStarted)] == ["protocol"]
    for number, opinion in enumerate(events[-1].diagnosis.evidence.opinions, start=1):
        assert f"Specialist {number} says {opinion.labels[0]}" in events[-1].text
    assert generalist.asked == []
    assert not [event for event in ask("Thank you!") if isinstance(event, ToolStarted)], "nothing to look up"


def test_a_task_that_a_person_named_is_not_chosen_anew(make, pictures):
    gsco, generalist = make(calls(call("diagnose", task="stripes")), gate="warn")
    turn = gsco.consult("a", task="shade").send("What is this?", [pictures.shade("dark", 75)])
    assert turn.diagnosis.task == "shade"
    assert not generalist.asked, "there is nothing to choose"
    plain = gsco.diagnose(pictures.shade("dark", 75), task="shade", gate="warn")
    assert turn.diagnosis.probabilities == pytest.approx(dict(plain.probabilities))
