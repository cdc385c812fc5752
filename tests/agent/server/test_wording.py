"""What a chat client reads below the generalist's words, and what of it is taken when it is sent back."""

from __future__ import annotations

from gsco.agent.server.wording import bare, closing
from gsco.case import Diagnosis, Evidence, GateReport, TaskKind
from gsco.graphs.events import Final

DIAGNOSIS = Diagnosis(
    case_id="c", task="shade", kind=TaskKind.DIAGNOSIS, label="dark", labels=("dark",), confidence=0.9,
    evidence=Evidence(gate=GateReport(task="shade")),
)  # fmt: skip


def test_words_that_stand_are_followed_by_the_decision_only() -> None:
    final = Final(text="It is dark.", diagnosis=DIAGNOSIS, diagnoses=(DIAGNOSIS,), notes=("A note.",))
    told = closing(final, corrected=True)
    assert told == closing(final) and told.startswith("**Decision (shade): dark**, confidence 90 %")
    assert bare(f"{final.text}\n\n{told}") == final.text
