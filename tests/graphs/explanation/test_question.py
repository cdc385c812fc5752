"""Which topic a question is read as, and what it names."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from gsco.graphs.explanation.question import PHRASINGS, Topic, understand
from gsco.graphs.explanation.topic_model import TopicModel, plain
from gsco.tasks import TaskBook

BUSI, LUNGS = TaskBook().get("busi"), TaskBook().get("chest_xray")
TASKS = [BUSI, LUNGS, TaskBook().get("brain_mri"), TaskBook().get("lung_histology")]
KEPT_BACK = [
    (language, text, tuple(topics.split("|")))
    for languages in tomllib.loads(Path(__file__).with_name("kept_back.toml").read_text("utf-8")).values()
    for language, by_topic in languages.items()
    for topics, texts in by_topic.items()
    for text in texts
]


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
        ("how sure are you thanks", Topic.CONFIDENCE),
        ("Hello there, doctor", Topic.GREETING),
        ("The patient smokes and is 54, where is it?", Topic.LOCATION),
        ("what differs from the first image", Topic.COMPARE),
        ("donde esta", Topic.LOCATION),
        ("C'est où ?", Topic.LOCATION),
        ("wie wahrscheinlich ist das", Topic.CONFIDENCE),
        ("wie warscheinlich ist das", Topic.CONFIDENCE),
        ("gibt es aehnliche faelle", Topic.SIMILAR),
        ("What do you think of climate change?", Topic.OTHER),
        ("Thanks! Should I give antibiotics?", Topic.OTHER),
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


@pytest.mark.parametrize("language", ["en", "de", "es", "fr", "zh"])
@pytest.mark.parametrize("of_record", [True, False])
def test_questions_that_were_kept_back(language, of_record):
    asked = [
        (text, topics)
        for own, text, topics in KEPT_BACK
        if own == language and of_record == (topics != ("other",))
    ]
    missed = [
        (text, topics) for text, topics in asked if understand(text, TASKS).topic not in same(text, topics)
    ]
    assert len(asked) >= 25
    assert len(missed) <= 0.05 * len(asked), missed


def same(text: str, topics: tuple[str, ...]) -> tuple[str, ...]:
    """The topics that are answered alike: whether it is a label, and why it is not."""
    named = any(understand(text).labels(task) for task in TASKS)
    return (*topics, "decision", "why_not") if named and {*topics} & {"decision", "why_not"} else topics


def test_what_was_kept_back_is_no_phrasing():
    fitted = tomllib.loads(PHRASINGS.read_text("utf-8"))["questions"].values()
    assert not {plain(text) for _, text, _ in KEPT_BACK} & {plain(text) for texts in fitted for text in texts}


def test_a_phrasing_has_one_topic():
    questions = tomllib.loads(PHRASINGS.read_text("utf-8"))["questions"]
    topics = [(plain(text), topic) for topic, texts in questions.items() for text in texts if plain(text)]
    assert {*questions} == {str(topic) for topic in Topic}
    assert [text for text, topic in topics if (text, topic) != (text, dict(topics)[text])] == []


def test_meanings_carry_what_is_learnt_to_another_language():
    phrasings = {
        "why": ["give me a reason", "what reason"],
        "where": ["which side", "on the side"],
        "who": ["who was it", "who else"],
    }
    model = TopicModel(phrasings, {"reason": ["reason", "grund"], "side": ["side", "seite"]})
    for text, topic in (("Grund?", "why"), ("Seite?", "where")):
        scores = model.scores(text)
        assert max(scores, key=lambda one: scores[one]) == topic, scores
