"""What a chat client reads below the generalist's words, and what of it is taken when it is sent back."""

from __future__ import annotations

import pytest
from gsco.agent.server.markdown import FOOTER, after_stream, footer, without_footer
from gsco.case import Diagnosis, Evidence, GateReport, TaskKind
from gsco.graphs.events import Final

DIAGNOSIS = Diagnosis(
    case_id="c",
    task="shade",
    kind=TaskKind.DIAGNOSIS,
    label="dark",
    labels=("dark",),
    confidence=0.9,
    evidence=Evidence(gate=GateReport(task="shade")),
)
LISTED = "Findings:\n\n- the left is dark\n\n_Mostly._\n\nReviewed by nobody.\n\n**Decision** pending."


@pytest.mark.parametrize("words", ["It is dark.", LISTED, ""])
def test_the_footer_alone_is_taken_off(words: str) -> None:
    final = Final(text=words, diagnosis=DIAGNOSIS, diagnoses=(DIAGNOSIS,), notes=("A note.",))
    told = footer(final)
    assert told.startswith(f"{FOOTER}\n\n**Decision (shade): dark**, confidence 90%")
    assert without_footer(f"{words}\n\n{told}") == words
    assert after_stream(final, words) == told
    assert without_footer(words) == words, "an answer without a footer stays as it is"


def test_an_answer_that_was_not_streamed_as_it_stands_is_told_below() -> None:
    final = Final(text="I see.\n\nDecision: dark 90%.", diagnosis=DIAGNOSIS, diagnoses=(DIAGNOSIS,))
    told = after_stream(final, "It is dark (3%).")
    assert without_footer(f"It is dark (3%).\n\n{told}") == final.text
    assert after_stream(final, "").startswith(final.text), "where nothing was streamed, it is the answer"


def test_where_nothing_was_diagnosed_there_is_no_footer() -> None:
    assert footer(Final(text="Hello.")) == "" and after_stream(Final(text="Hello."), "Hello.") == ""
