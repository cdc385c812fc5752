"""Conversations that call functions: as the template writes them, and true to their evidence."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from gsco.case import Task
from gsco.models.generalist.functions import declared, functions
from gsco.models.generalist.tool_calls import read_calls, specifications
from gsco.models.generalist.training.batches import ConversationWriter
from gsco.models.generalist.training.config import EvidenceConfig
from gsco.models.generalist.training.consultations import (
    FUNCTIONS,
    draw_consultation,
)
from gsco.models.generalist.training.evidence import (
    draw_circumstances,
    draw_neighbours,
    draw_opinions,
)
from gsco.models.generalist.training.example import ImageView, Scene, TrainingPrompt
from gsco.models.generalist.training.mixture import training_texts
from gsco.models.generalist.training.tokenizer import train_tokenizer

from .test_mixture import mixture

TASKS = (
    Task(name="fruit", modality="photo", options=("apple", "banana", "cherry")),
    Task(name="tool", modality="drawing", options=("hammer", "saw")),
)


def drawn(count: int = 200) -> list[TrainingPrompt]:
    found = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        task = TASKS[seed % 2]
        scene = Scene(task, task.options, int(random.integers(len(task.options))), 0, ImageView(seed % 2, 0))
        case = draw_circumstances(random, scene.names, scene.truth, EvidenceConfig())
        parts = (
            draw_opinions(random, case, EvidenceConfig()),
            draw_neighbours(random, case, EvidenceConfig()),
        )
        found.append(draw_consultation(random, scene, TASKS, lambda parts=parts: parts))
    return found


def calls(prompt: TrainingPrompt) -> list[dict[str, Any]]:
    said = [*(turn.text for turn in prompt.turns if turn.role == "assistant"), prompt.answer]
    return [dict(call) for text in said for call in read_calls(text).tool_calls]


def test_every_call_is_one_of_the_tools_with_their_arguments() -> None:
    names: Counter[str] = Counter()
    for number, prompt in enumerate(drawn()):
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in prompt.tools}
        for call in calls(prompt):
            names[call["name"]] += 1
            assert set(call["args"]) == set(schemas[call["name"]].get("required", ()))
            if call["args"]:
                assert call["args"]["task"] == TASKS[number % 2].name
                named = schemas[call["name"]]["properties"]["task"]
                assert call["args"]["task"] in named.get("enum", [named.get("const")])
    assert set(names) == set(FUNCTIONS)


def test_cases_are_retrieved_where_the_specialists_disagree() -> None:
    seen = Counter()
    for prompt in drawn(400):
        names = [call["name"] for call in calls(prompt)]
        seen[tuple(names)] += 1
        if names == ["classify", "retrieve_cases"]:
            result = next(turn.text for turn in prompt.turns if turn.role == "tool")
            said = {line.split(": ")[1].split(" (")[0] for line in result.splitlines() if " (" in line}
            assert len(said - {"no opinion"}) > 1
    assert seen["classify", "retrieve_cases"] > 5 and seen["classify",] > 5


def test_a_conversation_ends_with_a_call_and_teaches_no_words() -> None:
    for prompt in drawn():
        assert read_calls(prompt.answer).tool_calls and not read_calls(prompt.answer).text


def test_tools_are_shown_as_langchain_s_tools_are() -> None:
    known = functions(TASKS)
    shown = specifications([declared(known[name]) for name in FUNCTIONS])
    prompts = [prompt for prompt in drawn() if len(prompt.tools) == 4]
    orders = {json.dumps(prompt.tools) for prompt in prompts}
    assert json.dumps(shown) in orders


@pytest.mark.parametrize("number", range(12))
def test_training_writes_conversations_as_the_template_does(number: int) -> None:
    tokenizer = train_tokenizer(training_texts(mixture(), 30), 500)
    prompt = drawn(12)[number]
    (written,) = ConversationWriter(tokenizer, 4).written([prompt])
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt.text}]}
    ]
    for turn in (*prompt.turns, *_last(prompt)):
        said = read_calls(turn.text) if turn.role == "assistant" else None
        message: dict[str, Any] = {"role": turn.role, "content": said.text if said else turn.text}
        if said and said.tool_calls:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": call["name"], "arguments": call["args"]}}
                for call in said.tool_calls
            ]
        messages.append(message)
    text = tokenizer.apply_chat_template(messages, tools=list(prompt.tools), tokenize=False)
    wide = str(text).replace("<IMG_CONTEXT>", f"<img>{'<IMG_CONTEXT>' * 4}</img>")
    assert tokenizer(wide, add_special_tokens=False)["input_ids"] == written.ids
    learnt = tokenizer.decode([id for id, own in zip(written.ids, written.learnt, strict=True) if own])
    assert learnt.count("<|im_end|>") == 1 + sum(turn.role == "assistant" for turn in prompt.turns)
    assert "tool_response" not in learnt and "Image img" not in learnt


def _last(prompt: TrainingPrompt) -> list[Any]:
    from gsco.models.generalist.training.example import PromptTurn

    return [PromptTurn("assistant", prompt.answer)]
