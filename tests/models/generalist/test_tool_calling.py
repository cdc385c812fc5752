"""Tool calls of a model that knows of none: the form that it is held to, and the conversation in words."""

from __future__ import annotations

import json

import pytest
from gsco.errors import GeneralistError
from gsco.models.generalist.functions import declared, functions
from gsco.models.generalist.messages import message
from gsco.models.generalist.tool_calling import form_of, in_words, read_call
from gsco.models.generalist.tool_calls import specifications
from gsco.tasks import builtin_tasks
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

TOOLS = specifications(
    [declared(f) for f in functions([builtin_tasks()[name] for name in ("busi", "brain_mri")]).values()]
)
CALL = {"name": "classify", "args": {"task": "busi"}, "id": "1", "type": "tool_call"}


def names(form: dict) -> list[str]:
    return [one["properties"]["tool"]["const"] for one in form["anyOf"]]


def test_the_form_is_one_of_the_tools_or_an_answer() -> None:
    form = form_of(TOOLS)
    assert names(form) == ["classify", "retrieve_cases", "diagnose", "list_tasks", "answer"]
    classify = form["anyOf"][0]
    assert classify["additionalProperties"] is False
    assert classify["properties"]["arguments"]["properties"]["task"]["enum"] == ["busi", "brain_mri"]
    assert "$ref" not in json.dumps(form)


def test_a_demanded_tool_leaves_no_other_way() -> None:
    assert names(form_of(TOOLS, "diagnose")) == ["diagnose"]
    assert "answer" not in names(form_of(TOOLS, "any"))
    with pytest.raises(GeneralistError, match="'operate'"):
        form_of(TOOLS, "operate")


def test_a_conversation_with_calls_is_put_into_words() -> None:
    said = [
        SystemMessage("Be brief."),
        message("human", "What is it?", ["img-0"]),
        AIMessage("", tool_calls=[CALL]),
        ToolMessage("benign 90%", tool_call_id="1"),
        HumanMessage("And now?"),
    ]
    system, asked, called, result = in_words(said, TOOLS)
    assert system.text.startswith("Be brief.\nYou can use these tools:")
    assert '"name": "retrieve_cases"' in system.text
    assert asked.content == said[1].content
    assert json.loads(called.text) == {"tool": "classify", "arguments": {"task": "busi"}}
    assert (result.type, result.text) == ("human", "Result of classify:\nbenign 90%\n\nAnd now?")


def test_a_conversation_without_a_system_message_gets_one() -> None:
    system, _ = in_words([HumanMessage("x")], TOOLS)
    assert system.text.startswith("Answer the questions.\n")


def test_images_of_joined_turns_stay_with_the_user() -> None:
    turns = [ToolMessage("seen", tool_call_id="1"), message("human", "Look.", ["img-1"])]
    _, joined = in_words(turns, TOOLS)
    assert joined.content == [
        {"type": "image", "file_id": "img-1"},
        {"type": "text", "text": "Result of the tool:\nseen\n\nLook."},
    ]


def test_an_answer_in_the_form_is_read() -> None:
    call = read_call('{"tool":"classify","arguments":{"task":"busi"}}')
    assert [(one["name"], one["args"]) for one in call.tool_calls] == [("classify", {"task": "busi"})]
    assert read_call('{"tool":"answer","arguments":{"text":"benign"}}').text == "benign"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "benign",
        '{"tool":"answer","arguments":{"te',
        "[]",
        '{"tool":1,"arguments":{}}',
        '{"tool":"answer","arguments":{}}',
    ],
)
def test_an_answer_in_no_form_is_an_error_without_its_words(text: str) -> None:
    with pytest.raises(GeneralistError, match="cut off") as caught:
        read_call(text)
    assert not text or text not in str(caught.value)
