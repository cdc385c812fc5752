import asyncio
from dataclasses import replace

import pytest
from gsco.case import Answer, Case, Evidence, GateReport, ImageRef, SimilarCase, Task, TaskKind
from gsco.errors import PromptTooLong, TooManyImages
from gsco.graphs.diagnosis_context import DiagnosisContext
from gsco.graphs.fusion import present_labels
from gsco.graphs.nodes.ask import ask, choices, joined, without_farthest
from gsco.models.generalist.prompts import PRESENCE, PROFILES
from gsco.models.generalist.protocol import Choice

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


def similar(number: int, similarity: float) -> SimilarCase:
    return SimilarCase(
        id=f"case-{number}", sha256="0" * 64, task="t", labels=("a",), similarity=similarity, encoder="e"
    )


LESION = Task(name="t", modality="MRI", options=("a", "b"))
FOUND = tuple(similar(number, 0.5 + 0.04 * (number * 7 % 11)) for number in range(10))


def test_too_many_images_are_not_mended_by_fewer_similar_cases():
    asked = []

    async def choose(choice: Choice) -> Answer:
        asked.append(choice)
        raise TooManyImages("at most 1 image")

    collaboration = replace(reading(10)[0], choose=choose)
    with pytest.raises(TooManyImages):
        asyncio.run(ask(CASE, LESION, NOTHING.model_copy(update={"similar_cases": FOUND}), collaboration))
    assert len(asked) == 1


def reading(most: int) -> tuple[DiagnosisContext, list[int]]:
    """A generalist that reads at most so many similar cases, and how many it was asked with."""
    asked: list[int] = []

    async def choose(choice: Choice) -> Answer:
        listed = choice.messages[-1].text.partition("most similar cases are ")[2].partition(".")[0]
        asked.append(len(listed.split(",")) if listed else 0)
        if asked[-1] > most:
            raise PromptTooLong("too long")
        return Answer(labels=("a",), probabilities={"a": 0.75, "b": 0.25})

    async def generate(messages):
        raise AssertionError("nobody asks an open question here")

    async def loaded():
        return None

    rest = {
        "tasks": None,
        "specialists": None,
        "retrieval": None,
        "load_generalist": loaded,
        "generalist_name": lambda: "g",
    }
    return DiagnosisContext(choose=choose, generate=generate, profile=PROFILES["paper"], **rest), asked


@pytest.mark.parametrize("most", [0, 1, 4, 7, 9, 10])
def test_as_many_similar_cases_are_kept_as_the_generalist_reads(most):
    collaboration, asked = reading(most)
    evidence = NOTHING.model_copy(update={"similar_cases": FOUND})
    answer = asyncio.run(ask(CASE, LESION, evidence, collaboration))
    assert answer.left_out == 10 - most
    assert max(count for count in asked if count <= most) == most and len(asked) <= 6


def test_the_farthest_go_and_the_evidence_says_so():
    evidence = without_farthest(NOTHING.model_copy(update={"similar_cases": FOUND}), 7)
    kept = sorted((case.similarity for case in FOUND), reverse=True)[:3]
    assert sorted((case.similarity for case in evidence.similar_cases), reverse=True) == kept
    assert [FOUND.index(case) for case in evidence.similar_cases] == sorted(
        map(FOUND.index, evidence.similar_cases)
    )
    (missing,) = evidence.missing
    assert missing.source == "retrieval" and "7 of 10 similar cases" in missing.reason


def test_what_is_too_long_without_any_similar_case_is_an_error():
    collaboration, asked = reading(-1)
    with pytest.raises(PromptTooLong):
        asyncio.run(ask(CASE, LESION, NOTHING.model_copy(update={"similar_cases": FOUND}), collaboration))
    assert asked == [10, 0]
