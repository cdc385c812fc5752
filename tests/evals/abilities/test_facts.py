"""Facts are read from free text and compared with the evidence, number by number."""

from __future__ import annotations

import pytest
from gsco.case import Diagnosis, Evidence, GateReport, Missing, Opinion, SimilarCase, TaskKind
from gsco.evals.abilities.facts import held, known, stated
from gsco.models.generalist.statements import Finished, on_record
from gsco.models.generalist.training.follow_ups import answer


def opinion(name: str, label: str, probability: float) -> Opinion:
    return Opinion(
        specialist=name, architecture="x", labels=(label,), probabilities={label: probability, "other": 0.0}
    )


SAID = (opinion("lite0", "no tumor", 0.97), opinion("panel-b", "glioma", 0.615))
MISSING = Missing(source="specialist:vit", reason="it failed")
SIMILAR = (
    SimilarCase(id="a", sha256="0" * 64, task="t", labels=("glioma",), similarity=0.876, encoder="e"),
    SimilarCase(id="b", sha256="1" * 64, task="t", labels=("no tumor",), similarity=0.5, encoder="e"),
)
SHARES = {"no tumor": 0.71, "glioma": 0.2, "other": 0.09}
DIAGNOSIS = Diagnosis(
    case_id="c", task="t", kind=TaskKind.DIAGNOSIS, label="no tumor", labels=("no tumor",),
    probabilities=SHARES,
    evidence=Evidence(gate=GateReport(task="t"), opinions=SAID, missing=(MISSING,), similar_cases=SIMILAR),
)  # fmt: skip


@pytest.mark.parametrize(
    ("question", "option"),
    [("specialists", ""), ("closest", ""), ("sure", ""), ("why_not", "glioma"), ("why_not", "other")],
)
def test_a_full_answer_states_all_facts_and_no_other(question: str, option: str) -> None:
    text = answer(question, Finished(tuple(SHARES), (*SAID, MISSING), SIMILAR, SHARES), option)
    assert stated(question, text) == known(question, DIAGNOSIS, option)
    assert known(question, DIAGNOSIS, option)


@pytest.mark.parametrize(
    ("question", "text", "right", "count"),
    [
        ("specialists", "lite0: no tumor 97%; panel-b: no tumor 62%.", 1, 2),
        ("specialists", "lite0: no tumor 96%", 0, 1),
        ("specialists", "vit: no opinion", 1, 1),
        ("specialists", "I do not know.", 0, 0),
        ("closest", "Case 1: glioma, similarity 0.88.", 1, 1),
        ("closest", "Case 2: no tumor, similarity 0.50.", 0, 1),
        ("sure", "no tumor 71%, then glioma 21%.", 1, 2),
        ("why_not", "glioma has 20%, no tumor 71%. Specialists for glioma: lite0.", 2, 3),
        ("why_not", "glioma has 20%, no tumor 71%. No specialist named glioma.", 2, 3),
    ],
)
def test_what_is_wrong_is_counted_as_stated_and_not_as_right(
    question: str, text: str, right: int, count: int
) -> None:
    found = stated(question, text)
    assert (len(found & known(question, DIAGNOSIS, "glioma")), len(found)) == (right, count)


@pytest.mark.parametrize("question", ["specialists", "closest", "sure", "why_not"])
def test_the_record_states_only_what_is_held_and_so_does_a_full_answer(question: str) -> None:
    record = stated(question, on_record(Finished.of(DIAGNOSIS)))
    assert record and record <= held(question, DIAGNOSIS)
    assert known(question, DIAGNOSIS, "glioma") <= held(question, DIAGNOSIS)
    if question != "why_not":
        assert known(question, DIAGNOSIS, "glioma") <= record
    assert not stated(
        question, "glioma 70%, then other 9%. Case 1: other, similarity 0.88. vit: other 5%."
    ) <= held(question, DIAGNOSIS)
