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


def test_streamed_words_that_do_not_stand_are_corrected_below() -> None:
    final = Final(text="I see.\n\nDecision: dark 90%.", withdrawn=("It is dark (3%).",))
    told = closing(final, corrected=True)
    assert told.endswith(final.text) and "Corrected" in told
    assert "Corrected" not in closing(final), "an answer that is sent as a whole has the right words already"
    assert bare(f"I see. It is dark (3%).\n\n{told}") == final.text, "and only those are taken up again"
