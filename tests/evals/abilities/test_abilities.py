"""The suite on real small parts, with a generalist that reads its conversation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from gsco._support.jsonl import read_log
from gsco.agent.api import GSCo
from gsco.errors import ConfigurationError, GeneralistError
from gsco.evals.abilities.ability_records import LOG, AbilityImage, AbilityRecord
from gsco.evals.abilities.conversations import CALL, DECISION, PROTOCOL, consult
from gsco.evals.abilities.report import MARKDOWN, report, table
from gsco.evals.abilities.suite import TOOLS, ask, show
from gsco.tasks import TaskBook
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from ...scripted import ScriptedChat, call, calls
from ..scripted_run import SHADE, Bench, Reader, make_store


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
def images(bench: Bench) -> list[AbilityImage]:
    from gsco.case import Case

    items = bench.dataset.split("test")[:3]
    return [
        AbilityImage(
            item.path.name,
            SHADE,
            Case(id=item.path.name, images=(bench.gsco.images.put(item.path),)),
            item.labels,
        )
        for item in items
    ]


def shown(out: Path) -> list[AbilityRecord]:
    return list(read_log(out / LOG, AbilityRecord))


def test_choices_are_counted(bench: Bench, images: list[AbilityImage], tmp_path: Path) -> None:
    show(bench.gsco, Talker(), images, tmp_path, quiet=True)
    by_ability = {ability: [one for one in shown(tmp_path) if one.ability == ability] for ability in TOOLS}
    assert all(len(found) == 3 and all(one.right == 1 for one in found) for found in by_ability.values())
    assert report(tmp_path) == 0
    assert "| tool choice | shade | 3 | 100.0%" in (tmp_path / "abilities.md").read_text()


def test_a_wrong_task_is_a_wrong_choice(bench: Bench, images: list[AbilityImage], tmp_path: Path) -> None:
    show(bench.gsco, Talker(task="chest_xray"), images, tmp_path, quiet=True)
    assert not any(one.right for one in shown(tmp_path) if one.ability in TOOLS)


def test_nothing_is_asked_twice_and_failures_again(
    bench: Bench, images: list[AbilityImage], tmp_path: Path
) -> None:
    talker = Talker()
    talker.fails = True
    show(bench.gsco, talker, images, tmp_path, quiet=True)
    assert report(tmp_path) == 6 and all(one.error for one in shown(tmp_path))
    talker.fails, talker.calls = False, 0
    show(bench.gsco, talker, images, tmp_path, quiet=True)
    assert talker.calls == 6 and report(tmp_path) == 0
    show(bench.gsco, talker, images, tmp_path, quiet=True)
    assert talker.calls == 6


def test_consultations_stand_beside_the_fixed_protocol(
    bench: Bench, images: list[AbilityImage], tmp_path: Path
) -> None:
    (tmp_path / "shade.toml").write_text(
        'name = "shade"\nmodality = "grey square"\noptions = ["dark", "bright"]\nabstain_below = 0.6\n'
    )
    mine = bench.gsco
    for task, called in (("shade", 1), ("chest_xray", 0)):
        talker, out = Talker(task=task), tmp_path / task
        store = make_store(tmp_path / f"{task}.sqlite", bench.dataset, mine.panels["shade"])
        with GSCo(
            tasks=TaskBook(tmp_path),
            panels=mine.panels,
            store=store,
            generalist=talker,
            images=mine.images,
            gate="off",
        ) as gsco:
            consult(gsco, talker, images, out, quiet=True)
            rights = {
                name: [o.right for o in shown(out) if o.ability == name]
                for name in (CALL, DECISION, PROTOCOL)
            }
            assert not any(one.error for one in shown(out))
            assert rights[CALL] == [called] * 3 and sum(rights[PROTOCOL]) >= 2
            assert rights[DECISION] == (rights[PROTOCOL] if called else [0] * 3)
            before = talker.calls
            consult(gsco, talker, images, out, quiet=True)
            assert talker.calls == before, "nothing is asked twice"
            assert report(out) == 0 and "| consultation: call | shade | 3 |" in (out / MARKDOWN).read_text()


def test_closed_questions_stand_beside_the_commonest_answer(bench: Bench, tmp_path: Path) -> None:
    picture = bench.dataset.split("test")[0].path
    (tmp_path / "vqa" / "images").mkdir(parents=True)
    (tmp_path / "vqa" / "images" / picture.name).write_bytes(picture.read_bytes())
    records = [
        {"question": "Is it?", "answer": answer, "answer_type": kind, "image_name": picture.name}
        for answer, kind in (("Yes", "CLOSED"), ("no", "CLOSED "), ("No", "CLOSED"), ("left", "OPEN"))
    ]
    path = tmp_path / "vqa" / "test.json"
    path.write_text(json.dumps(records))
    ask(bench.gsco, Talker(), path, tmp_path / "out", quiet=True)
    found = shown(tmp_path / "out")
    assert [(one.right, one.truth) for one in found] == [(1, "yes"), (0, "no"), (0, "no")]
    assert "always saying 'no' is right in 66.7%" in table(found)
    path.write_text("[{}]")
    with pytest.raises(ConfigurationError, match="answer_type"):
        ask(bench.gsco, Talker(), path, tmp_path / "out", quiet=True)


def test_a_folder_without_a_run_has_no_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="0 generalists"):
        report(tmp_path)
