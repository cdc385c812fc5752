"""Which topic a question is read as, and what it names."""

from __future__ import annotations

import pytest
from gsco.graphs.explanation.question import Topic, understand
from gsco.tasks import TaskBook

BUSI, LUNGS = TaskBook().get("busi"), TaskBook().get("chest_xray")


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("Where is the finding?", Topic.LOCATION),
        ("Should I give antibiotics?", Topic.OTHER),
        ("What is the capital of France?", Topic.OTHER),
        ("Wer widerspricht?", Topic.DISAGREEMENT),
        ("¿Por qué no es neumonía?", Topic.WHY_NOT),
        ("Quels cas sont les plus proches ?", Topic.SIMILAR),
        ("你有多确定？", Topic.CONFIDENCE),
        ("Hello, what can you do?", Topic.CAPABILITIES),
        ("hi how sure are you", Topic.CONFIDENCE),
        ("Great, thanks! Which cases are similar?", Topic.SIMILAR),
        ("Guten Tag, wer widerspricht?", Topic.DISAGREEMENT),
        ("你好，你有多确定？", Topic.CONFIDENCE),
        ("Hello again", Topic.GREETING),
        ("Hi, I am Dr. Smith", Topic.GREETING),
        ("Thank you, that helps", Topic.THANKS),
        ("Hello, what is the capital of France?", Topic.OTHER),
        ("", Topic.DECISION),
        ("???", Topic.DECISION),
        ("😀", Topic.OTHER),
    ],
)
def test_topics(text, topic):
    assert understand(text, [LUNGS]).topic is topic


def test_labels_are_found_by_name_alias_and_translation():
    assert understand("Why not malignant?").labels(BUSI) == ("malignant",)
    assert understand("Könnte es bösartig sein?").labels(BUSI) == ("malignant",)
    assert understand("会不会是良性？").labels(BUSI) == ("benign",)
    assert understand("Is it breast cancer or a cyst?").labels(BUSI) == ("malignant", "benign")
    assert understand("abnormality").labels(BUSI) == (), "a part of a word is no label"


def test_labels_may_be_misspelt():
    assert understand("looks like pnuemonia to me", [LUNGS]).labels(LUNGS) == ("pneumonia",)
    assert understand("why not malignent", [BUSI]).labels(BUSI) == ("malignant",)
    assert understand("is that abnormal? normally not", [LUNGS]).labels(LUNGS) == ()


def test_images_specialists_and_counts():
    question = understand("What did lite0 say about the second image?", [BUSI], ["lite0", "probe"])
    assert (question.topic, question.specialists, question.places) == (Topic.SPECIALISTS, ("lite0",), (2,))
    assert understand("Show me the 3 most similar cases").count == 3
    assert understand("Compare both images").everything
    assert understand("How sure are you about the first image?").topic is Topic.CONFIDENCE
    assert understand("How sure are you about img-0123456789ab?").images == ("img-0123456789ab",)
