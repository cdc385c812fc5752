"""``gsco eval``, through the command that users type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gsco.agent.cli import app
from gsco.evals import runner
from gsco.evals.commands import SOME_FAILED
from gsco.evals.plan import Plan
from gsco.evals.runner import RunContext as Parts
from gsco.evals.suites import read_suite
from gsco.settings import Settings
from typer.testing import CliRunner

from .scripted_run import SHADE, Bench


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["eval", *(str(argument) for argument in arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the settings know the bench's task."""
    (tmp_path / "tasks").mkdir()
    options = ", ".join(f'"{option}"' for option in SHADE.options)
    text = f'name = "shade"\nmodality = "{SHADE.modality}"\noptions = [{options}]\nabstain_below = 0.6\n'
    (tmp_path / "tasks" / "shade.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("GSCO_TASKS", str(tmp_path / "tasks"))
    monkeypatch.setenv("GSCO_HOME", str(tmp_path / "home"))


@pytest.fixture
def plans(bench: Bench, card: None, monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Let the command run the bench's parts in place of the bundled ones, and note its plans."""
    seen: list[Plan] = []

    @contextmanager
    def parts(settings: Settings, plan: Plan, team: Any) -> Iterator[Parts]:
        from gsco.tasks import TaskBook

        seen.append(plan)
        monkeypatch.setattr(bench.gsco, "tasks", TaskBook(settings.tasks))
        yield Parts(bench.gsco, bench.generalist, None, team)

    monkeypatch.setattr(runner, "run_context_of", parts)
    return seen


def squares(bench: Bench) -> Path:
    return bench.dataset.folder


ON = ("--task", "shade", "--gate", "off")


def test_a_run_ends_with_its_report(bench: Bench, plans: list[Plan], tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, told = invoke("run", squares(bench), *ON, "--out", out, "--arms", "knn, vote")
    assert code == 0
    assert "| knn | 10 |" in printed and "| vote | 10 |" in printed
    assert "20 outcomes written" in told
    assert plans[0].arms == ("knn", "vote")
    assert (out / "report.md").read_text(encoding="utf-8") == printed
    assert (out / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_module_is_the_same_command() -> None:
    import subprocess
    import sys

    run = subprocess.run(
        [sys.executable, "-m", "gsco.evals", "--help"], capture_output=True, text=True, check=True
    )
    assert "abilities" in run.stdout and "compare" in run.stdout


def test_cases_without_an_answer_show_in_the_exit_status(
    bench: Bench, plans: list[Plan], tmp_path: Path
) -> None:
    bench.generalist.gone_for = frozenset({bench.image("images/015.png")})
    options = ("--arms", "generalist", "--retries", "0")
    code, _, told = invoke("run", squares(bench), *ON, "--out", tmp_path / "out", *options)
    assert code == SOME_FAILED
    assert "1 of them errors" in told


def test_settings_and_options_reach_the_plan(
    bench: Bench, plans: list[Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GSCO_NEIGHBOURS", "5")
    options = (
        "--split",
        "train",
        "--leaks",
        "exclude",
        "--limit",
        "7",
        "--concurrency",
        "3",
        "--arms",
        "knn",
    )
    code, printed, _ = invoke("run", squares(bench), *ON, "--out", tmp_path / "out", *options)
    plan = plans[0]
    given = (plan.neighbours, plan.profile, plan.split, plan.leaks, plan.limit, plan.concurrency)
    assert given == (5, "paper", "train", "exclude", 7, 3)
    assert code == 0 and "| knn | 7 |" in printed


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--split", "tset", "split"), ("--limit", "0", "limit"), ("--gate", "open", "gate")],
)
def test_a_wrong_option_is_one_line(option: str, value: str, said: str, tmp_path: Path) -> None:
    code, _, told = invoke("run", tmp_path, "--task", "shade", "--out", tmp_path, option, value)
    assert code == 2
    assert told.startswith("gsco: options: ") and said in told and told.count("\n") == 1


def test_an_unknown_suite_is_one_line(tmp_path: Path) -> None:
    code, _, told = invoke("run", "qiuck", "--out", tmp_path)
    assert code == 2
    assert "did you mean 'quick'" in told and told.count("\n") == 1


def test_an_unknown_task_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSCO_HOME", str(tmp_path / "home"))
    code, _, told = invoke(
        "run", tmp_path, "--task", "chest_xrya", "--out", tmp_path / "out", "--arms", "vote"
    )
    assert code == 2
    assert "chest_xray" in told and told.count("\n") == 1


def test_a_report_of_nothing_is_one_line(tmp_path: Path) -> None:
    code, _, told = invoke("report", tmp_path)
    assert (code, told.count("\n")) == (2, 1)


def test_an_unknown_clinical_metric_is_one_line(finished_run: Path) -> None:
    code, _, told = invoke("report", finished_run, "--clinical", "chexpert")
    assert code == 2 and "available: chexbert, radgraph, ratescore" in told and told.count("\n") == 1


class TestSuites:
    def test_sets_have_folders_and_one_report(self, bench: Bench, plans: list[Plan], tmp_path: Path) -> None:
        suite = tmp_path / "two.toml"
        sets = [f'[[sets]]\ndataset = "{squares(bench)}"\ntask = "shade"\n']
        sets.append('[[sets]]\ndataset = "/nowhere/else"\ntask = "shade"\n')
        suite.write_text("".join(sets), encoding="utf-8")
        out = tmp_path / "out"
        code, printed, told = invoke("run", suite, "--out", out, "--gate", "off", "--arms", "vote")
        assert code == SOME_FAILED, "one of the sets could not be run"
        assert "else was left out" in told and "10 outcomes written" in told
        assert (out / "squares" / "run.json").exists() and "| vote | 10 |" in printed

    def test_bundled_suites_can_be_read(self) -> None:
        quick, everything = read_suite("quick"), read_suite("open")
        assert [member.name for member in quick.sets] == ["chest_xray", "brain_mri", "busi", "lung_histology"]
        from gsco.evals.datasets import entries

        assert {member.dataset for member in everything.sets} <= set(entries())

    def test_a_suite_with_two_sets_of_one_name_is_refused(self, tmp_path: Path) -> None:
        suite = tmp_path / "same.toml"
        suite.write_text('[[sets]]\ndataset = "a/x"\n[[sets]]\ndataset = "b/x"\n', encoding="utf-8")
        code, _, told = invoke("run", suite, "--out", tmp_path / "out")
        assert code == 2 and "same name" in told and told.count("\n") == 1
