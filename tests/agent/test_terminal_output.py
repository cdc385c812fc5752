"""How diagnoses look, whatever stands in them."""

from __future__ import annotations

import io

import pytest
from gsco.agent.terminal_output import print_diagnosis, share
from gsco.case import (
    Conflict,
    Diagnosis,
    Evidence,
    GateReport,
    Missing,
    Opinion,
    SimilarCase,
    TaskKind,
)
from rich.console import Console


def shown(diagnosis: Diagnosis, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_diagnosis(diagnosis, console, title="scan.dcm")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def diagnosis(**fields: object) -> Diagnosis:
    values = {
        "case_id": "img-0",
        "task": "chest",
        "kind": TaskKind.DIAGNOSIS,
        "label": "pneumonia",
        "labels": ("pneumonia",),
        "probabilities": {"normal": 0.25, "pneumonia": 0.75},
        "confidence": 0.75,
        "evidence": Evidence(gate=GateReport(task="chest")),
        "generalist": "mini 1a2b",
        "profile": "calibrated@12345678",
    }
    return Diagnosis.model_validate({**values, **fields})


def test_bars_are_as_long_as_probabilities_and_sorted():
    lines = [line for line in shown(diagnosis()).splitlines() if "━" in line]
    assert [line.count("━") for line in lines] == [18, 6]
    assert "pneumonia" in lines[0] and "0.750" in lines[0]


def test_an_abstention_is_a_question():
    text = shown(diagnosis(abstained=True, reasons=("The specialists disagree.",)))
    assert "pneumonia?" in text
    assert "a person must decide" in text
    assert "The specialists disagree." in text


def test_conflict_and_missing_evidence_are_said():
    text = shown(
        diagnosis(
            conflict=Conflict(
                generalist_against_panel=True, specialists_disagree=True, panel_share=1 / 3, similar_share=0.9
            ),
            evidence=Evidence(
                gate=GateReport(
                    task="chest", task_chosen=True, task_probability=0.8, familiar=False, notes=("Dim.",)
                ),
                missing=(Missing(source="specialist:vit", reason="its weights are damaged"),),
            ),
        )
    )
    for words in (
        "missing specialist:vit: its weights are damaged",
        "generalist ≠ panel, specialists disagree",
        "specialists 0.33, similar cases 0.90",
        "task chosen from the image, probability 0.80",
        "far from every known case",
        "Dim.",
    ):
        assert words in text


def test_what_is_unknown_is_a_dash():
    assert share(None) == "–"
    opinion = Opinion(specialist="draft", architecture="r2gen", text="No effusion.")
    text = shown(diagnosis(evidence=Evidence(gate=GateReport(task="chest"), opinions=(opinion,))))
    assert "No effusion." in text
    assert text.count("–") == 2


@pytest.mark.parametrize("kind", [TaskKind.QUESTION, TaskKind.REPORT])
def test_open_tasks_show_their_text(kind: TaskKind):
    fields = {"label": None, "labels": (), "probabilities": None, "confidence": None}
    text = shown(diagnosis(kind=kind, text="The heart is not enlarged.", **fields))
    assert "The heart is not enlarged." in text
    assert "Diagnosis " not in text


def test_several_labels_and_none():
    several = {"kind": TaskKind.MULTILABEL, "label": "dot, cross", "labels": ("dot", "cross")}
    assert "dot, cross" in shown(diagnosis(**several))
    none = {"kind": TaskKind.MULTILABEL, "label": None, "labels": ()}
    assert "none of the options" in shown(diagnosis(**none))


def test_text_is_shown_as_it_is():
    """A label or a report is no markup, and cannot steer the terminal."""
    hostile = SimilarCase(
        id="1",
        sha256="0" * 64,
        task="chest",
        labels=("[red]x[/red]",),
        similarity=0.5,
        encoder="e",
        source="a\x1b[2Jb\u202e",
    )
    text = shown(diagnosis(evidence=Evidence(gate=GateReport(task="chest"), similar_cases=(hostile,))))
    assert "[red]x[/red]" in text
    assert "\x1b" not in text


def test_long_lists_are_cut():
    case = SimilarCase(id="1", sha256="0" * 64, task="chest", labels=("x",), similarity=0.5, encoder="e")
    text = shown(diagnosis(evidence=Evidence(gate=GateReport(task="chest"), similar_cases=(case,) * 25)))
    assert "and 15 more" in text


@pytest.mark.parametrize("width", [30, 60, 200])
def test_any_width_will_do(width: int):
    assert all(len(line) <= width for line in shown(diagnosis(), width).splitlines())
