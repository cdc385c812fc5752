"""What the golden check says where something is wrong with a served generalist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gsco.agent.cli import app
from gsco.agent.serving_verification import (
    PUBLISHED,
    TOLERANCE,
    as_published,
    compared,
    same_conversation,
    same_tokens,
    verify_serving,
)
from gsco.case import Answer
from gsco.errors import GeneralistError
from gsco.settings import Settings
from typer.testing import CliRunner

SAID = (
    "Findings: …\nImpressions: branch Retinal Vein Occlusion (BRVO).",
    "… a possible diagnosis of ulcerative colitis.",
    "the optic nerve",
    "No",
    "Osteophytes,Surgical implant",
)


def answer(label: str, probability: float) -> Answer:
    other = {"a": "b", "b": "a"}[label]
    return Answer(labels=(label,), probabilities={label: probability, other: 1 - probability})


def test_another_template_is_told_by_the_first_token_that_differs():
    assert same_tokens([1, 2, 3], [1, 2, 3]).state == "ok"
    check = same_tokens([1, 2, 9, 3], [1, 2, 3])
    assert check.state == "wrong" and "first difference is at 2" in check.found
    assert "chat template" in check.advice and "gsco serve generalist" in check.advice
    assert same_tokens([1, 2], [1, 2, 3]).state == "wrong"


def test_other_weights_are_told_by_the_answers():
    here = [answer("a", 0.9), answer("b", 0.6)]
    close = [answer("a", 0.9 - TOLERANCE / 2), answer("b", 0.6)]
    assert compared(list(zip(here, close, strict=True)), "v").state == "ok"
    shifted = compared(list(zip(here, [answer("a", 0.7), answer("b", 0.6)], strict=True)), "v")
    assert shifted.state == "wrong" and "0.2000" in shifted.found and "version v" in shifted.advice
    turned = compared(list(zip(here, [answer("a", 0.9), answer("a", 0.5)], strict=True)), "v")
    assert turned.state == "wrong" and "1 other labels" in turned.found
    failed = compared([(here[0], GeneralistError("gone"))], "v")
    assert failed.state == "wrong" and "gone" in failed.found


def test_the_published_answers_are_known_by_their_content():
    assert as_published(SAID).state == "ok"
    for place, one in enumerate(PUBLISHED):
        others = [*SAID[:place], "There is nothing to see.", *SAID[place + 1 :]]
        check = as_published(others)
        assert check.state == "wrong" and one.file in check.found and "ps_version" in check.advice


def test_a_stock_chatml_template_is_not_meddrs():
    text = "<|im_start|>system\nAnswer the questions.<|im_end|>\n<|im_start|>user\nIs it?<|im_end|>\n"
    assert same_conversation(text).state == "wrong"


def test_no_server_is_one_plain_finding(tmp_path: Path):
    (check,) = verify_serving(Settings(home=tmp_path, generalist_model="mini"), "http://127.0.0.1:9/v1")
    assert check.state == "wrong" and "no server answers" in check.found


def test_the_command_exits_with_the_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("GSCO_HOME", str(tmp_path))
    monkeypatch.setenv("GSCO_GENERALIST_MODEL", "mini")
    run = CliRunner().invoke(app, ["doctor", "--generalist", "http://127.0.0.1:9/v1", "--json"])
    assert run.exit_code == 1
    assert [one["subject"] for one in json.loads(run.stdout)] == ["served generalist"]
