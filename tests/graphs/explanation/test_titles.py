"""Readers see numbers for the specialists; the record keeps their names."""

from __future__ import annotations

from gsco.case import Diagnosis, Evidence, GateReport, ImageRef, Missing, Opinion, TaskKind
from gsco.graphs.explanation.answer import written
from gsco.graphs.explanation.question import understand
from gsco.graphs.explanation.record import ImageRecord
from gsco.graphs.explanation.titles import titled, titles, together
from gsco.tasks import TaskBook

BUSI = TaskBook().get("busi")
IMAGE = ImageRef(sha256="0" * 64, width=8, height=8)


def opinion(name: str, label: str) -> Opinion:
    return Opinion(specialist=name, architecture="x", labels=(label,), probabilities={label: 0.75})


EVIDENCE = Evidence(
    gate=GateReport(task="busi"),
    opinions=(opinion("lite0", "benign"), opinion("lite0-wide", "malignant"), opinion("probe", "benign")),
    missing=(Missing(source="specialist:net", reason="specialist 'net' failed on an image: no memory"),),
)
RECORD = ImageRecord(
    1,
    1,
    IMAGE,
    Diagnosis(
        case_id=IMAGE.id,
        task="busi",
        kind=TaskKind.DIAGNOSIS,
        labels=("benign",),
        evidence=EVIDENCE,
        reasons=("The decision contradicts the specialist lite0-wide (malignant).",),
        abstained=True,
    ),
    BUSI,
)


def test_opinions_are_numbered_in_their_order_and_the_missing_come_last():
    assert titles(EVIDENCE) == {
        "lite0": "Specialist 1",
        "lite0-wide": "Specialist 2",
        "probe": "Specialist 3",
        "net": "Specialist 4",
    }
    assert together(["Specialist 1", "Specialist 3"]) == "Specialists 1 and 3"
    assert together(["Specialist 2"]) == "Specialist 2" and together(["a", "b"]) == "a and b"


def test_no_sentence_names_a_specialist_otherwise_and_the_record_keeps_the_names():
    names = [one.specialist for one in EVIDENCE.opinions]
    asked = ("Why?", "What did the specialists say?", "Who disagrees?", "Has a person reviewed this?")
    said = ""
    for text in (*asked, "What is the diagnosis?", "Write a report"):
        said = written(understand(text, [BUSI], names), [RECORD], tasks=[BUSI])
        assert "Specialist" in said and not any(name in said for name in ("lite0", "probe", "net ")), said
    assert "contradicts Specialist 2 (malignant)" in said
    assert "Specialist 4 gave no opinion: Specialist 4 failed" in said
    assert titled(RECORD).diagnosis != RECORD.diagnosis
    assert [one.specialist for one in RECORD.diagnosis.evidence.opinions] == names


def test_a_specialist_is_asked_about_by_number_and_by_name():
    known = [*titles(EVIDENCE), *titles(EVIDENCE).values()]
    for text in (
        "What does Specialist 2 say?",
        "Was sagt Spezialist 2?",
        "¿Qué dice el especialista 2?",
        "Que dit le spécialiste 2 ?",
        "专家2怎么说？",
        "What did lite0-wide say?",
    ):
        said = written(understand(text, [BUSI], known), [RECORD], tasks=[BUSI])
        assert said == "Specialist 2 says malignant with 75%.", (text, said)
