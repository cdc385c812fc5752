"""What real clients send, in every form, and conversations that they resend."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from gsco.case import Diagnosis, ReviewDecision

from .conftest import data_uri, served

TALL = "What is this?"


@pytest.fixture(scope="module")
def encoded(pictures) -> str:
    # Of a length that needs padding and with both characters that the URL-safe alphabet replaces.
    for seed in range(200, 400):
        buffer = io.BytesIO()
        pictures.shade("dark", seed).save(buffer, "PNG")
        text = base64.b64encode(buffer.getvalue()).decode()
        if text.endswith("=") and {"+", "/"} <= set(text):
            return text
    raise AssertionError("no picture fits")


def chat(address: str, *messages: dict[str, Any], status: int = 200, **fields: Any) -> dict[str, Any]:
    body = {"model": "gsco", "metadata": {"task": "shade"}, "messages": list(messages), **fields}
    answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=240)
    assert answer.status_code == status, answer.text[:500]
    return answer.json()


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": TALL}, *parts]}


def image(url: Any, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


FORMS = {
    "plain": lambda b: f"data:image/png;base64,{b}",
    "charset": lambda b: f"data:image/png;charset=utf-8;base64,{b}",
    "name": lambda b: f"data:image/png;name=röntgen 1.png;base64,{b}",
    "quoted name with a comma": lambda b: f'data:image/png;name="a, b.png";base64,{b}',
    "percent-encoded name": lambda b: f"data:image/png;name=r%C3%B6ntgen%201.png;base64,{b}",
    "no type": lambda b: f"data:;base64,{b}",
    "no type and no semicolon": lambda b: f"data:base64,{b}",
    "upper case": lambda b: f"DATA:IMAGE/PNG;BASE64,{b}",
    "space before": lambda b: f" data:image/png;base64,{b}",
    "space within": lambda b: f"data:image/png;base64, {b}",
    "lines": lambda b: "data:image/png;base64," + "\r\n".join(b[i : i + 76] for i in range(0, len(b), 76)),
    "newline at the end": lambda b: f"data:image/png;base64,{b}\n",
    "no padding": lambda b: f"data:image/png;base64,{b.rstrip('=')}",
    "url-safe": lambda b: f"data:image/png;base64,{b.translate(str.maketrans('+/', '-_'))}",
    "percent-encoded": lambda b: f"data:image/png;base64,{quote(b, safe='')}",
    "bare": lambda b: b,
}
PARTS = {
    "plain string": lambda url: {"type": "image_url", "image_url": url},
    "detail": lambda url: image(url, detail="high"),
    "no detail": lambda url: image(url, detail=None),
    "uuid": lambda url: {**image(url), "uuid": "x"},
    "cache control": lambda url: {**image(url), "cache_control": {"type": "ephemeral"}},
    "responses": lambda url: {"type": "input_image", "image_url": url},
    "anthropic": lambda url: {"type": "image", "source": {"type": "base64", "data": url.partition(",")[2]}},
    "file": lambda url: {"type": "file", "file": {"filename": "a.png", "file_data": url}},
    "input file": lambda url: {"type": "input_file", "filename": "a.png", "file_data": url},
}


@pytest.mark.parametrize("form", FORMS)
def test_an_image_in_every_form_of_base64(address, gsco, encoded, form):
    ref = gsco.images.put(base64.b64decode(encoded))
    answer = chat(address, user(image(FORMS[form](encoded))))
    assert answer["gsco"]["diagnosis"]["case_id"] == ref.id, "the very same pixels"


@pytest.mark.parametrize("form", PARTS)
def test_an_image_in_every_form_of_part(address, gsco, encoded, form):
    ref = gsco.images.put(base64.b64decode(encoded))
    answer = chat(address, user(PARTS[form](f"data:image/png;base64,{encoded}")))
    assert answer["gsco"]["diagnosis"]["case_id"] == ref.id


RECORDED = {
    each["name"]: each["body"]
    for each in json.loads(
        (Path(__file__).parent / "requests" / "open_webui.json").read_text(encoding="utf-8")
    )["requests"]
}
"""What Open WebUI sent, with its default settings, for one image and two questions."""


def replayed(address: str, name: str, encoded: str) -> tuple[str, dict[str, Any]]:
    """The words of the answer to a recorded request, and gsco's fields."""
    body = json.loads(
        json.dumps(RECORDED[name]).replace("<IMAGE>", encoded).replace("image/jpeg", "image/png")
    )
    if not body["stream"]:
        answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=240).json()
        return answer["choices"][0]["message"]["content"], answer["gsco"]
    chunks = streamed(address, *body.pop("messages"), **body, gsco={"task": "shade"})
    words = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    return words, chunks[-1]["gsco"]


def test_open_webui_from_the_first_message(address, encoded):
    words, told = replayed(address, "first turn", encoded)
    assert told["diagnosis"] and "**Record (gsco)**" in words and set(told["ignored"]) == {"tools"}
    words, told = replayed(address, "second turn", encoded)
    assert words and set(told["ignored"]) == {"tools"}


def test_open_webui_s_own_tasks_are_answered_without_the_agent(address, encoded):
    asked = {
        name: json.loads(replayed(address, name, encoded)[0]) for name in ("title", "tags", "follow-ups")
    }
    assert asked["title"] == {"title": "What is the diagnosis"}
    assert asked["tags"] == {"tags": ["Medical imaging", "Chest xray", "normal"]}
    suggested = asked["follow-ups"]["follow_ups"]
    assert len(suggested) == 3 and all(question.endswith("?") for question in suggested)


@pytest.mark.parametrize(
    ("message", "fields", "says"),
    [
        (
            "### Task:\nName it.\n<chat_history>\nUSER: hi\n</chat_history>",
            {"metadata": {"task": "title_generation"}},
            '{"title": "hi"}',
        ),
        ('### Task:\nSearch? { "queries": ["a"] }', {}, '{"queries": []}'),
        (
            "Provide a concise, 5-word-or-less title for the conversation, using its same language."
            "\n||>User: Is this scan normal or not, please?",
            {},
            "Is this scan normal or not",
        ),
        (
            "Write a title for this chat.\n\nuser: x\n\n**Decision (brain_mri): glioma**, confidence 90 %",
            {},
            "Brain mri: glioma",
        ),
    ],
)
def test_titles_and_searches_of_other_clients(address, message, fields, says):
    answer = chat(address, {"role": "user", "content": message}, **fields)
    assert answer["choices"][0]["message"]["content"] == says


def test_a_choice_among_tools_that_the_agent_does_not_have(address):
    system = {"role": "system", "content": "Available Tools: [{}]\n\nYour task is to choose"}
    answer = chat(address, system, {"role": "user", "content": "Query: What is this?"})
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"tool_calls": []}


def test_langchain_s_client(address, gsco, encoded):
    from langchain_core.messages import HumanMessage
    from langchain_openai import ChatOpenAI
    from pydantic import BaseModel

    class Read(BaseModel):
        label: str
        confidence: float

    with httpx.Client() as client:
        model = ChatOpenAI(
            base_url=f"{address}/v1",
            api_key="none",
            model="gsco",
            http_client=client,
            max_retries=0,
            temperature=0,
            max_completion_tokens=100,
            stream_usage=True,
            extra_body={"gsco": {"task": "shade"}},
        )
        block = {"type": "image", "base64": encoded, "mime_type": "image/png"}
        said = HumanMessage(content_blocks=[{"type": "text", "text": TALL}, block])
        answer = model.invoke([said])
        assert "**Decision (shade)" in answer.text and answer.usage_metadata["output_tokens"] > 0
        whole = None
        for chunk in model.stream([said, answer, HumanMessage("How sure are you?")]):
            whole = chunk if whole is None else whole + chunk
        assert whole.text and whole.usage_metadata["output_tokens"] > 0
        record = model.with_structured_output(Read, method="json_schema").invoke([said])
        assert isinstance(record, Read) and record.label in ("dark", "bright")


FIELDS: list[tuple[dict[str, Any], set[str]]] = [
    ({"tools": [{"type": "function", "function": {"name": "search", "parameters": {}}}]}, {"tools"}),
    ({"tools": [], "tool_choice": "none"}, set()),
    ({"stream": None, "stream_options": None, "metadata": None}, set()),
    ({"stream_options": {"include_usage": True}}, set()),
    ({"response_format": {"type": "text"}, "n": 1, "logprobs": False, "top_logprobs": None}, set()),
    ({"max_tokens": 5, "stop": ["dark"], "temperature": 0.1}, {"max_tokens", "stop", "temperature"}),
    ({"max_completion_tokens": 5, "stop": [], "logit_bias": {}, "store": False}, {"max_completion_tokens"}),
    (
        {"metadata": {"chat_id": "a", "task": None, "session_id": "b", "group": 7}},
        set(),
    ),
    ({"metadata": {f"key{n}": "x" for n in range(40)}}, set()),
    ({"model": "gsco:latest"}, set()),
    ({"model": "openai/gsco", "keep_alive": "5m"}, {"keep_alive"}),
]


@pytest.mark.parametrize(
    ("fields", "ignored"), FIELDS, ids=lambda given: str(sorted(given) if isinstance(given, set) else given)
)
def test_fields_without_effect_are_named(address, encoded, fields, ignored):
    fields = {"gsco": {"task": "shade"}, **fields}
    answer = chat(address, user(image(f"data:image/png;base64,{encoded}")), **fields)
    assert answer["gsco"]["diagnosis"]["label"] == "dark"
    assert set(answer["gsco"]["ignored"]) == ignored and all(answer["gsco"]["ignored"].values())


HISTORIES: dict[str, tuple[list[dict[str, Any]], set[str]]] = {
    "tool calls": (
        [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]},
            {"role": "tool", "tool_call_id": "c", "content": "42"},
        ],
        {"messages.2"},
    ),
    "function": ([{"role": "function", "name": "f", "content": "42"}], {"messages.0"}),
    "parts of an answer": (
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "audio": None}],
        set(),
    ),
    "strings as parts": ([{"role": "user", "content": ["one", "two"]}], set()),
    "audio": (
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": ""}}]}],
        {"messages.0"},
    ),
    "an image that was refused": ([user(image("https://hospital.example/a.png"))], {"messages.0"}),
    "an image in an answer": (
        [{"role": "assistant", "content": [image("data:image/png;base64,AAAA")]}],
        {"messages.0"},
    ),
    "no system": ([{"role": "system", "content": None}, {"role": "developer", "content": ""}], set()),
}


@pytest.mark.parametrize("history", HISTORIES)
def test_messages_of_every_kind(address, encoded, history):
    before, ignored = HISTORIES[history]
    answer = chat(address, *before, user(image(f"data:image/png;base64,{encoded}")))
    assert answer["gsco"]["diagnosis"]["label"] == "dark"
    assert set(answer["gsco"]["ignored"]) == ignored


def test_a_system_message_changes_no_diagnosis(address, encoded):
    shown = user(image(f"data:image/png;base64,{encoded}"))
    plain = chat(address, shown)["gsco"]["diagnosis"]
    for role in ("system", "developer"):
        told = chat(address, {"role": role, "content": "Always say that it is bright."}, shown)["gsco"]
        assert told["diagnosis"]["probabilities"] == plain["probabilities"]
        assert set(told["ignored"]) == {"system"}


def test_the_clients_own_tools_cannot_be_demanded(address):
    for choice in ("required", {"type": "function", "function": {"name": "f"}}):
        refused = chat(address, user(), tools=[{"type": "function"}], tool_choice=choice, status=400)
        assert "response_format" in refused["error"]["message"]


def test_usage_whole_and_streamed(address, encoded):
    shown = user(image(f"data:image/png;base64,{encoded}"))
    answer = chat(address, shown)
    used = answer["usage"]
    assert used["prompt_tokens"] == 4 and used["completion_tokens"] >= 10
    assert used["total_tokens"] == used["prompt_tokens"] + used["completion_tokens"]
    chunks = streamed(address, shown, stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["prompt_tokens"] == 4
    assert all("usage" not in chunk for chunk in streamed(address, shown))


def streamed(address: str, *messages: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    body = {"model": "gsco", "gsco": {"task": "shade"}, "messages": messages, "stream": True, **fields}
    answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=240)
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_an_answer_in_json_is_the_record(address, encoded):
    shown = user(image(f"data:image/png;base64,{encoded}"))
    wanted = {"response_format": {"type": "json_object"}}
    first = chat(address, shown, **wanted)
    content = first["choices"][0]["message"]["content"]
    assert Diagnosis.model_validate_json(content).label == "dark"
    said = {"role": "assistant", "content": "It is dark."}
    later = chat(address, shown, said, {"role": "user", "content": "As JSON, please."}, **wanted)
    assert Diagnosis.model_validate_json(later["choices"][0]["message"]["content"]).label == "dark"
    chunks = streamed(address, shown, **wanted)
    together = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
    assert Diagnosis.model_validate_json(together).label == "dark"
    assert chat(address, user(), status=400, **wanted)["error"]["code"] == "no_diagnosis"


def test_an_answer_by_a_schema_of_the_clients(address, encoded):
    def wanted(*names: str) -> dict[str, Any]:
        schema = {"type": "object", "properties": {name: {} for name in names}, "required": list(names)}
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "d", "schema": schema}}}

    shown = user(image(f"data:image/png;base64,{encoded}"))
    answer = chat(address, shown, **wanted("label", "confidence"))
    record = json.loads(answer["choices"][0]["message"]["content"])
    assert set(record) == {"label", "confidence"} and record["label"] == "dark"
    refused = chat(address, shown, status=400, **wanted("label", "finding"))["error"]
    assert refused["code"] == "response_format_refused" and "finding" in refused["message"]


@pytest.fixture
def counted(make_gsco, monkeypatch) -> Iterator[tuple[Any, str, list[str]]]:
    """A server whose diagnoses outside of a conversation are counted."""
    made: list[str] = []
    with make_gsco() as gsco, served(gsco) as address:
        adiagnose = gsco.adiagnose

        async def counting(image: Any, **more: Any) -> Diagnosis:
            made.append(image.id)
            return await adiagnose(image, **more)

        monkeypatch.setattr(gsco, "adiagnose", counting)
        yield gsco, address, made


def test_a_resent_conversation_has_its_evidence(counted, pictures, monkeypatch):
    gsco, address, made = counted
    begun: list[Any] = []
    consult = gsco.consult

    def watched(*args: Any, **more: Any) -> Any:
        consultation = consult(*args, **more)
        astream = consultation.astream

        def streaming(text: str, images: Any = (), *, earlier: Any) -> Any:
            begun.append(earlier)
            return astream(text, images, earlier=earlier)

        monkeypatch.setattr(consultation, "astream", streaming)
        return consultation

    monkeypatch.setattr(gsco, "consult", watched)
    dark, bright = (image(data_uri(pictures.shade(name, 91))) for name in ("dark", "bright"))
    first = chat(address, user(dark))["choices"][0]["message"]
    chat(address, user(dark), first, {"role": "user", "content": "What did the specialists say?"})
    [finding] = begun[-1].findings.values()
    assert finding.diagnosis.label == "dark" and finding.turn == begun[-1].messages[0].id
    assert finding.diagnosis.evidence.opinions and made == [], "remembered from the first answer"
    said = {"role": "assistant", "content": "It is bright."}
    talk = [user(bright), said, user(dark), first, {"role": "user", "content": "Compare."}]
    chat(address, *talk)
    ids = [gsco.images.put(pictures.shade(name, 91)).id for name in ("bright", "dark")]
    assert [one.diagnosis.case_id for one in begun[-1].findings.values()] == ids
    assert made == ids[:1], "found once more, since another server answered the first time"
    chat(address, *talk)
    assert len(made) == 1 and gsco.threads() == []


def test_a_person_s_decision_is_part_of_the_evidence(make_gsco, pictures):
    with make_gsco(review="always") as gsco, served(gsco) as address:
        shown = user(image(data_uri(pictures.shade("dark", 92))))
        first = chat(address, shown)
        edit = ReviewDecision(action="edit", reviewer="Dr A", reason="seen", labels=("bright",))
        thread = first["gsco"]["thread"]
        decided = httpx.post(
            f"{address}/v1/threads/{thread}/decision", json=edit.model_dump(mode="json"), timeout=240
        )
        assert decided.status_code == 200, decided.text
        talk = [shown, first["choices"][0]["message"], {"role": "user", "content": "So what is it?"}]
        later = chat(address, *talk, response_format={"type": "json_object"})
        record = Diagnosis.model_validate_json(later["choices"][0]["message"]["content"])
        assert record.label == "bright" and record.review.decision.reviewer == "Dr A"
