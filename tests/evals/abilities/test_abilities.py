"""The suite on real small parts, with a generalist that reads its conversation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from gsco.agent.api import GSCo
from gsco.errors import ConfigurationError, GeneralistError
from gsco.evals.abilities.ability_arms import ABILITIES, CALL, DECISION, TOOLS
from gsco.evals.abilities.report import MARKDOWN, report
from gsco.evals.abilities.suite import EARLIER_LOG, ask, run, show
from gsco.evals.outcomes import current
from gsco.evals.records import OUTCOMES, Outcome
from gsco.evals.report import report as report_of
from gsco.evals.runner import RunContext
from gsco.settings import Settings
from gsco.tasks import TaskBook
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from ...scripted import ScriptedChat, call, calls
from ..scripted_run import PLAN, SHADE, Bench, Reader, make_store

SHOWN = PLAN.model_copy(update={"leaks": "exclude", "limit": 3})


class Talker(Reader):
    """Calls the first function with the right arguments."""

    def __init__(self, *, task: str = "shade") -> None:
        super().__init__()
        self.task = task
        self.calls = 0
        self.fails = False

    def call_tools(self, messages: Sequence[BaseMessage], tools: Sequence[Any]) -> AIMessage:
        self.calls += 1
        if self.fails:
            raise GeneralistError("cannot be reached")
        names = [tool.name for tool in tools]
        image = messages[0].content[0]["file_id"]  # type: ignore[index, call-overload]
        name = "diagnose" if "diagnose" in names else "classify"
        call = {"name": name, "args": {"image": image, "task": self.task}, "id": "1", "type": "tool_call"}
        return AIMessage("", tool_calls=[call])  # type: ignore[list-item]

    def chat_model(self) -> ScriptedChat:
        return ScriptedChat(generalist=self)

    def says(self, messages: Sequence[BaseMessage], offered: Sequence[str]) -> AIMessage:
        self.calls += 1
        if any(isinstance(message, ToolMessage) for message in messages):
            return AIMessage("That is it.")
        return calls(call("diagnose", task=self.task))

    def generate(self, requests: Any, *, max_new_tokens: int = 256) -> Any:
        return ["Yes." for _ in requests]


@pytest.fixture
def parts(bench: Bench, tmp_path: Path) -> Iterator[RunContext]:
    """Parts whose task can be named in a conversation."""
    (tmp_path / "shade.toml").write_text(
        'name = "shade"\nmodality = "grey square"\noptions = ["dark", "bright"]\nabstain_below = 0.6\n'
    )
    store = make_store(tmp_path / "talk.sqlite", bench.dataset, bench.gsco.panels["shade"])
    talker = Talker()
    with GSCo(
        tasks=TaskBook(tmp_path),
        panels=bench.gsco.panels,
        store=store,
        generalist=talker,
        images=bench.gsco.images,
        gate="off",
    ) as gsco:
        yield RunContext(gsco, talker)


def shown(parts: RunContext, bench: Bench, out: Path) -> dict[str, list[Outcome]]:
    show(parts, [(SHADE, bench.dataset)], out, plan=SHOWN, quiet=True)
    found = current(out / "shade")
    return {**found.abilities, **found.outcomes}


def talker_of(parts: RunContext) -> Talker:
    assert isinstance(parts.generalist, Talker)
    return parts.generalist


def test_abilities_stand_beside_the_decision_of_the_product(
    parts: RunContext, bench: Bench, tmp_path: Path
) -> None:
    found = shown(parts, bench, tmp_path / "out")
    assert found.keys() == ABILITIES | {"gsco"} and all(len(several) == 3 for several in found.values())
    assert not [one for several in found.values() for one in several if one.error]
    assert all(one.hit for name in (*TOOLS, CALL) for one in found[name])
    assert [one.hit for one in found[DECISION]] == [one.right for one in found["gsco"]]
    assert report(tmp_path / "out") == 0
    text = (tmp_path / "out" / MARKDOWN).read_text()
    assert "| tool choice | shade | 3 | 100.0%" in text and "| fixed protocol: decision | shade | 3 |" in text
    # The report of the run has them too, and scores only the arms that decide.
    one = report_of(tmp_path / "out", rounds=20, page=False).runs[0]
    assert {row.ability for row in one.abilities} > ABILITIES
    assert one.scores is not None and [arm.arm for arm in one.scores.arms] == ["gsco"]
    assert "| tool choice | shade | 3 |" in (tmp_path / "out" / "report.md").read_text()


def test_a_wrong_task_is_a_wrong_choice(parts: RunContext, bench: Bench, tmp_path: Path) -> None:
    talker_of(parts).task = "chest_xray"
    found = shown(parts, bench, tmp_path)
    assert not [one for name in ABILITIES for one in found[name] if one.right]


def test_nothing_is_asked_twice_and_failures_again(parts: RunContext, bench: Bench, tmp_path: Path) -> None:
    talker = talker_of(parts)
    talker.fails = True
    shown(parts, bench, tmp_path)
    assert report(tmp_path) == 6
    talker.fails, talker.calls = False, 0
    whole = shown(parts, bench, tmp_path)
    assert talker.calls == 6 and report(tmp_path) == 0
    assert shown(parts, bench, tmp_path) == whole and talker.calls == 6


def test_a_stopped_run_goes_on_to_the_same_outcomes(parts: RunContext, bench: Bench, tmp_path: Path) -> None:
    whole = shown(parts, bench, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    log = tmp_path / "stopped" / "shade" / OUTCOMES
    # In the middle of a line, as a process leaves it that is killed while it writes.
    log.write_bytes(log.read_bytes()[: len(log.read_bytes()) // 2])
    again = shown(parts, bench, tmp_path / "stopped")
    assert timeless(again) == timeless(whole)


def timeless(found: dict[str, list[Outcome]]) -> dict[str, list[Outcome]]:
    return {arm: [one.model_copy(update={"seconds": {}}) for one in of] for arm, of in found.items()}


def test_closed_questions_stand_beside_the_commonest_answer(
    parts: RunContext, bench: Bench, tmp_path: Path
) -> None:
    picture = bench.dataset.split("test")[0].path
    (tmp_path / "vqa" / "images").mkdir(parents=True)
    (tmp_path / "vqa" / "images" / picture.name).write_bytes(picture.read_bytes())
    records = [
        {"question": "Is it?", "answer": answer, "answer_type": kind, "image_name": picture.name}
        for answer, kind in (("Yes", "CLOSED"), ("no", "CLOSED "), ("No", "CLOSED"), ("left", "OPEN"))
    ]
    path = tmp_path / "vqa" / "test.json"
    path.write_text(json.dumps(records))
    ask(parts, path, tmp_path / "out" / "vqa", plan=SHOWN, quiet=True)
    assert report(tmp_path / "out") == 0
    text = (tmp_path / "out" / MARKDOWN).read_text()
    assert "| closed questions | vqa | 3 | 33.3%" in text and "always saying 'no' is right in 66.7%" in text
    path.write_text("[{}]")
    with pytest.raises(ConfigurationError, match="answer_type"):
        ask(parts, path, tmp_path / "other", plan=SHOWN, quiet=True)


def test_a_folder_without_a_run_has_no_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no run in"):
        report(tmp_path)


def test_the_log_of_an_earlier_version_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / EARLIER_LOG).touch()
    with pytest.raises(ConfigurationError, match="earlier version"):
        run({}, None, tmp_path, settings=Settings(), plan=PLAN)
