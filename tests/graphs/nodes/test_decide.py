import pytest
from gsco.case import Answer, Case, Evidence, GateReport, ImageRef, Task, TaskKind
from gsco.graphs.nodes.decide import choices, joined, present_labels
from gsco.models.generalist.prompts import PRESENCE, PROFILES

CASE = Case(id="c", images=(ImageRef(sha256="0" * 64, width=8, height=8),))
EYE = Task(
    name="eye",
    kind=TaskKind.MULTILABEL,
    modality="fundus photograph",
    options=("Normal", "Glaucoma", "Cataract"),
    negative="Normal",
)
NOTHING = Evidence(gate=GateReport(task="eye"))


def presence(yes: float) -> Answer:
    label = "yes" if yes >= 0.5 else "no"
    return Answer(labels=(label,), probabilities={"yes": yes, "no": 1 - yes}, text=label)


@pytest.mark.parametrize(
    ("present", "labels"),
    [
        ((0.1, 0.9, 0.2), ("Glaucoma",)),
        ((0.1, 0.9, 0.6), ("Glaucoma", "Cataract")),
        ((0.9, 0.1, 0.2), ("Normal",)),
        ((0.2, 0.1, 0.3), ("Normal",)),
        ((0.9, 0.8, 0.7), ("Normal",)),
        ((0.7, 0.8, 0.1), ("Glaucoma",)),
    ],
)
def test_the_negative_option_stands_alone_or_not_at_all(present, labels):
    assert present_labels(EYE, dict(zip(EYE.options, present, strict=True))) == labels


def test_without_a_negative_option_nothing_may_be_said():
    task = EYE.model_copy(update={"negative": None})
    assert present_labels(task, {"Normal": 0.1, "Glaucoma": 0.2, "Cataract": 0.3}) == ()


def test_presences_become_one_answer():
    answer = joined(EYE, [presence(0.1), presence(0.9), presence(0.3)])
    assert answer.labels == ("Glaucoma",)
    assert answer.probabilities == {"Normal": 0.1, "Glaucoma": 0.9, "Cataract": 0.3}
    assert answer.text == "no,yes,no" and answer.parse == "probabilities"


def test_one_answer_without_probabilities_leaves_them_unknown():
    answer = joined(EYE, [presence(0.1), Answer(labels=("yes",), parse="alias", text="Yes."), presence(0.3)])
    assert answer.labels == ("Glaucoma",) and answer.probabilities is None and answer.parse == "alias"


def test_a_multilabel_task_asks_once_per_option():
    asked = choices(CASE, EYE, NOTHING, PROFILES["calibrated"])
    assert [choice.options for choice in asked] == [PRESENCE] * 3
    texts = [choice.messages[-1].content[-1]["text"] for choice in asked]
    assert all(f"'{option}'" in text for option, text in zip(EYE.options, texts, strict=True))


def test_a_single_label_task_asks_once():
    task = Task(name="t", modality="MRI", options=("a", "b"), aliases={"a": ("alpha",)})
    (choice,) = choices(CASE, task, NOTHING, PROFILES["paper"])
    assert choice.options == ("a", "b") and choice.aliases == {"a": ("alpha",)}
