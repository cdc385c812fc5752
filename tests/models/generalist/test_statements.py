"""What an answer states is held against the evidence, whatever the words around it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from gsco.case import (
    Decision,
    Diagnosis,
    Evidence,
    GateReport,
    Missing,
    Opinion,
    Review,
    SimilarCase,
    TaskKind,
)
from gsco.models.generalist.statements import Finished, grounded, on_record

SAID = (
    Opinion(
        specialist="lite0", architecture="x", labels=("lung adenocarcinoma",), reliability=0.9,
        probabilities={"lung adenocarcinoma": 0.97, "benign lung tissue": 0.03},
    ),
    Opinion(
        specialist="lite0-b", architecture="x", labels=("benign lung tissue",),
        probabilities={"lung adenocarcinoma": 0.385, "benign lung tissue": 0.615},
    ),
)  # fmt: skip
SIMILAR = (
    SimilarCase(
        id="a", sha256="0" * 64, task="t", labels=("lung adenocarcinoma",), similarity=0.876, encoder="e"
    ),
    SimilarCase(
        id="b", sha256="1" * 64, task="t", labels=("benign lung tissue",), similarity=0.5, encoder="e"
    ),
)
DIAGNOSIS = Diagnosis(
    case_id="c", task="t", kind=TaskKind.DIAGNOSIS, label="lung adenocarcinoma",
    labels=("lung adenocarcinoma",),
    probabilities={"benign lung tissue": 0.29, "lung adenocarcinoma": 0.71},
    evidence=Evidence(
        gate=GateReport(task="t"), opinions=SAID, similar_cases=SIMILAR,
        missing=(
            Missing(source="specialist:vit", reason="it failed"),
            Missing(source="retrieval", reason="x"),
        ),
    ),
)  # fmt: skip
CASE = Finished.of(DIAGNOSIS)


@pytest.mark.parametrize(
    "text",
    [
        "I think it is a benign lung tissue.",
        "lung adenocarcinoma 71%, then benign lung tissue 29%.",
        "Lung adenocarcinoma (71 %), which lite0 (reliability 90%) supports with 97%.",
        "Lung adenocarcinoma: 71.0%.",
        "lite0 says lung adenocarcinoma, but lite0-b: benign lung tissue 62%.",
        "Case 1: lung adenocarcinoma, similarity 0.88. Case 2 is benign lung tissue (similarity of 0.5).",
        "Specialists for benign lung tissue: lite0-b.",
        "vit: no opinion. There are 2 similar cases and 3 specialists.",
    ],
)
def test_what_the_evidence_holds_stands(text: str) -> None:
    assert grounded(text, [CASE]) == (text, ())


@pytest.mark.parametrize(
    "wrong",
    [
        "lung adenocarcinoma 72%.",
        "benign lung tissue has 71%.",
        "The risk is 5%.",
        "lung adenocarcinoma 71.3%.",
        "lite0 named benign lung tissue.",
        "lite0-b: lung adenocarcinoma.",
        "lite0: lung adenocarcinoma 71%.",
        "lite0: lung adenocarcinoma 97%; lite0-b: benign lung tissue 29%.",
        "Specialists for benign lung tissue: lite0-b, lite0.",
        "No specialist named benign lung tissue.",
        "No specialist was asked.",
        "No similar case was retrieved.",
        "Case 1: benign lung tissue.",
        "It has a similarity of 0.87.",
        "Case 1: lung adenocarcinoma, similarity 0.50.",
        "Case 3: lung adenocarcinoma.",
    ],
)
def test_what_it_does_not_hold_gives_way_to_the_record(wrong: str) -> None:
    text, gone = grounded(f"Well, let us see. {wrong} I hope that helps!", [CASE])
    assert gone == (wrong,)
    assert text == f"Well, let us see. I hope that helps!\n\n{on_record(CASE)}"


def test_the_record_itself_stands() -> None:
    record = on_record(CASE)
    assert record == (
        "Decision: lung adenocarcinoma.\n"
        "Probabilities: lung adenocarcinoma 71%, then benign lung tissue 29%.\n"
        "Specialists: lite0: lung adenocarcinoma 97%; lite0-b: benign lung tissue 62%; vit: no opinion.\n"
        "Closest known case: Case 1: lung adenocarcinoma, similarity 0.88."
    )
    assert grounded(record, [CASE]) == (record, ())


def test_any_case_on_record_will_do_and_the_last_one_is_told() -> None:
    other = Finished(("a", "b"), probabilities={"a": 0.9, "b": 0.1})
    assert grounded("a 90%. lung adenocarcinoma 71%.", [CASE, other])[1] == ()
    text, gone = grounded("a 10%.", [CASE, other])
    assert gone and text == on_record(other) and text.startswith("Probabilities: a 90%, then b 10%.")


def test_without_a_record_only_what_was_said_may_be_repeated() -> None:
    assert grounded("As you say, 40%.", [], said="There is a chance of 40 %.")[1] == ()
    text, gone = grounded("pneumonia 40%.", [])
    assert gone and "no evidence" in text


def test_what_a_person_decided_is_told_as_the_decision() -> None:
    decision = Decision(action="edit", reviewer="Dr. A", reason="seen before", labels=("benign lung tissue",))
    review = Review(decision=decision, at=datetime.now(UTC))
    edited = DIAGNOSIS.model_copy(
        update={"review": review, "label": "benign lung tissue", "labels": ("benign lung tissue",)}
    )
    assert on_record(Finished.of(edited)).startswith("Decision: benign lung tissue, as a person decided.\n")
