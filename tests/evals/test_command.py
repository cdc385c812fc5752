"""``python -m gsco.evals``."""

from __future__ import annotations

from pathlib import Path

import pytest
from gsco.evals import runner
from gsco.evals.__main__ import SOME_FAILED, app
from gsco.evals.replay import Finished, Plan
from gsco.settings import Settings
from typer.testing import CliRunner

from .bench import PLAN, Bench


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def runs_on_the_bench(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Let the command run the bench's parts in place of the bundled ones, and note its plans."""
    plans: list[Plan] = []

    def run(source: Path, task: str, out: Path, *, settings: Settings, plan: Plan) -> Finished:
        plans.append(plan)
        return bench.replay(out, PLAN.model_copy(update={"arms": plan.arms}))

    monkeypatch.setattr(runner, "run", run)
    return plans


def test_a_run_ends_with_its_report(runs_on_the_bench: list[Plan], tmp_path: Path) -> None:
    code, printed, told = invoke(
        "run", "squares", "--task", "shade", "--out", tmp_path, "--arms", "knn, vote"
    )
    assert code == 0
    assert "| knn | 10 |" in printed and "| vote | 10 |" in printed
    assert "20 outcomes written" in told
    assert runs_on_the_bench[0].arms == ("knn", "vote")
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == printed


def test_cases_without_an_answer_show_in_the_exit_status(
    bench: Bench, runs_on_the_bench: list[Plan], tmp_path: Path
) -> None:
    bench.generalist.gone_for = frozenset({bench.image("images/015.png")})
    code, _, told = invoke("run", "squares", "--task", "shade", "--out", tmp_path, "--arms", "generalist")
    assert code == SOME_FAILED
    assert "1 of them errors" in told


def test_settings_and_options_reach_the_plan(
    runs_on_the_bench: list[Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GSCO_NEIGHBOURS", "5")
    monkeypatch.setenv("GSCO_PROFILE", "paper")
    invoke(
        "run",
        "x",
        "--task",
        "shade",
        "--out",
        tmp_path,
        "--split",
        "val",
        "--leaks",
        "exclude",
        "--limit",
        "7",
    )
    plan = runs_on_the_bench[0]
    assert (plan.neighbours, plan.profile, plan.split, plan.leaks, plan.limit) == (
        5,
        "paper",
        "val",
        "exclude",
        7,
    )


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--split", "tset", "split"), ("--limit", "0", "limit"), ("--gate", "open", "gate")],
)
def test_a_wrong_option_is_one_line(option: str, value: str, said: str, tmp_path: Path) -> None:
    code, _, told = invoke("run", "x", "--task", "shade", "--out", tmp_path, option, value)
    assert code == 2
    assert told.startswith("gsco: options: ") and said in told and told.count("\n") == 1


def test_an_unknown_task_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSCO_HOME", str(tmp_path / "home"))
    code, _, told = invoke("run", tmp_path, "--task", "chest_xrya", "--out", tmp_path / "out")
    assert code == 2
    assert "chest_xray" in told and told.count("\n") == 1


def test_a_report_of_nothing_is_one_line(tmp_path: Path) -> None:
    code, _, told = invoke("report", tmp_path)
    assert (code, told.count("\n")) == (2, 1)
