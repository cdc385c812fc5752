"""The official client of OpenAI's against the server."""

from typing import Any

import pytest
from gsco.agent.server.policy import ServerPolicy
from gsco.models.mini.samples import samples
from openai import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    InternalServerError,
    NotFoundError,
    OpenAI,
    PermissionDeniedError,
)
from PIL import Image

from .conftest import asked, data_uri, served

opened: list[OpenAI] = []


def client(address: str, key: str = "none") -> Any:
    opened.append(OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=240))
    return opened[-1]


@pytest.fixture(autouse=True, scope="module")
def closed():
    yield
    for one in opened:
        one.close()


ANNA, BEN = "key-of-anna-0123456789", "key-of-ben-0123456789"


SHADE = {"task": "shade"}


@pytest.fixture(scope="module")
def openai(address) -> Any:
    return client(address)


def test_the_bundled_agent_answers_and_goes_on(bundled, bundled_address):
    sample = samples("chest_xray")[3]
    talk = [asked("What is the diagnosis?", Image.open(sample.path))]
    chat = client(bundled_address).chat.completions
    first = chat.create(model="gsco", messages=talk)
    words = first.choices[0].message.content
    assert first.choices[0].finish_reason == "stop" and first.object == "chat.completion"
    assert f"**Decision (chest_xray): {sample.label}**" in words and "Not a medical device" in words
    told = first.model_extra["gsco"]
    assert told["diagnosis"]["label"] == sample.label and len(told["diagnosis"]["evidence"]["opinions"]) == 4
    talk += [{"role": "assistant", "content": words}, asked("What did the specialists say?")]
    chunks = list(chat.create(model="gsco", messages=talk, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert bundled.threads() == [], "nobody named a thread, so nothing is kept"


def test_models(openai):
    assert [model.id for model in openai.models.list()] == ["gsco", "gsco-with-tools"]
    assert openai.models.retrieve("gsco").owned_by == "gsco"
    with pytest.raises(NotFoundError, match="gsco-with-tools"):
        openai.models.retrieve("gpt")


def test_a_stream_says_what_the_whole_says(openai, pictures):
    talk = [asked("What is this?", pictures.shade("dark", 70))]
    whole = openai.chat.completions.create(model="gsco", messages=talk, metadata=SHADE)
    chunks = list(openai.chat.completions.create(model="gsco", messages=talk, metadata=SHADE, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    words, corrected, rest = said.partition("**The answer as recorded:**\n\n")
    assert (rest if corrected else words).strip() == whole.choices[0].message.content.strip()
    assert len({chunk.id for chunk in chunks}) == 1
    assert (
        chunks[-1].model_extra["gsco"]["diagnosis"]["label"]
        == whole.model_extra["gsco"]["diagnosis"]["label"]
    )


def test_tools_are_hidden_or_shown(openai, pictures):
    talk = [asked("What is this?", pictures.shade("dark", 71))]
    hidden = openai.chat.completions.create(model="gsco", messages=talk, metadata=SHADE)
    assert not hidden.choices[0].message.model_extra["reasoning_content"]
    assert hidden.model_extra["gsco"]["evidence"] == []
    for model, more in (("gsco-with-tools", {}), ("gsco", {"gsco": {"tools": "shown"}})):
        shown = openai.chat.completions.create(model=model, messages=talk, metadata=SHADE, extra_body=more)
        thought = shown.choices[0].message.model_extra["reasoning_content"]
        assert "dark" in thought and shown.model_extra["gsco"]["evidence"]
    chunks = openai.chat.completions.create(
        model="gsco-with-tools", messages=talk, metadata=SHADE, stream=True
    )
    streamed = [(chunk.choices[0].delta.model_extra or {}).get("reasoning_content") or "" for chunk in chunks]
    assert "".join(streamed) == thought, "with tools shown they stream too"


def test_fields_of_openais_that_mean_nothing_here_are_taken(openai, pictures):
    answer = openai.chat.completions.create(
        model="gsco",
        messages=[{"role": "system", "content": "Child of 4."}, asked("?", pictures.shade("dark", 1))],
        temperature=0.2,
        top_p=0.9,
        max_tokens=50,
        seed=1,
        user="somebody",
        frequency_penalty=0.1,
        stop=["x"],
    )
    assert answer.choices[0].message.content


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n": 2}, "one answer at a time"),
        ({"messages": []}, "messages must not be empty"),
        ({"messages": [{"role": "user", "content": ""}]}, "the last message is empty"),
        ({"messages": [{"role": "assistant", "content": "I say"}]}, "the last message must come from"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "must come from the user"),
        ({"messages": [{"role": "owl", "content": "x"}]}, "messages.0.role must be 'system', 'developer'"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content must be text"),
        ({"metadata": {"thread": "../../etc"}}, "thread holds a character"),
        ({"extra_body": {"gsco": {"tool": "shown"}}}, "gsco.tool is not a field"),
        ({"metadata": {"task": "nonsense"}}, "no task named 'nonsense'"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_advice(openai, change, says):
    given = {"model": "gsco", "messages": [{"role": "user", "content": "Hello"}], **change}
    with pytest.raises(BadRequestError, match=says) as caught:
        openai.chat.completions.create(**given)
    assert caught.value.type == "invalid_request_error" and caught.value.code


def test_an_unknown_model(openai):
    with pytest.raises(NotFoundError, match="available: gsco, gsco-with-tools") as caught:
        openai.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])
    assert caught.value.code == "model_not_found" and caught.value.param == "model"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://169.254.169.254/latest/meta-data", "image_url_refused"),
        ("https://hospital.example/scan.png", "image_url_refused"),
        ("file:///etc/passwd", "image_url_refused"),
        ("/etc/passwd", "image_url_refused"),
        ("img-0123456789ab", "image_url_refused"),
        ("data:image/png,abc", "image_url_refused"),
        ("data:image/png;base64,@@@@", "invalid_base64"),
        ("data:image/png;base64,", "image_unreadable"),
        ("data:image/png;base64,aGVsbG8gd29ybGQ=", "image_unreadable"),
        ("data:application/pdf;base64,JVBERi0xLjcK", "image_unsupported"),
    ],
)
def test_nothing_is_fetched_and_what_is_no_image_is_refused(openai, url, code):
    talk = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    with pytest.raises(BadRequestError) as caught:
        openai.chat.completions.create(model="gsco", messages=talk)
    assert caught.value.code == code


def test_a_thread_by_any_of_its_three_names(openai, gsco, pictures):
    image = pictures.shade("dark", 72)
    ways = (
        {"extra_headers": {"X-GSCo-Thread": "kept-1"}},
        {"metadata": {"thread": "kept-1"}},
        {"extra_body": {"gsco": {"thread": "kept-1"}}},
    )
    for number, way in enumerate(ways):
        talk = [asked("First?", image), {"role": "assistant", "content": "made up"}] if number else []
        answer = openai.chat.completions.create(
            model="gsco", messages=[*talk, asked(f"Number {number}?", *([] if number else [image]))], **way
        )
        assert answer.model_extra["gsco"]["thread"] == "kept-1"
    said = gsco.consult("kept-1").history()
    assert [one.text for one in said if one.role == "user"] == ["Number 0?", "Number 1?", "Number 2?"]
    assert not any("made up" in one.text for one in said), "the thread knows its own past"
    gsco.delete_thread("kept-1")


def test_a_new_thread_begins_with_what_was_said_elsewhere(openai, gsco, pictures):
    words = "A shade.\n\n- dark\n\n_mostly_"
    talk = [
        asked("What is this?", pictures.shade("dark", 73)),
        {
            "role": "assistant",
            "content": f"{words}\n\n**Record (gsco)**\n\n**Decision (shade): dark**\n\n_note_",
        },
        {"role": "user", "content": "And now?"},
    ]
    openai.chat.completions.create(model="gsco", messages=talk, metadata={"thread": "moved"})
    said = gsco.consult("moved").history()
    assert [(one.role, one.text) for one in said][:3] == [
        ("user", "What is this?"),
        ("assistant", words),
        ("user", "And now?"),
    ]
    assert len(said[0].images) == 1
    gsco.delete_thread("moved")


def test_users_do_not_meet(locked, pictures):
    anna, ben = client(locked, ANNA), client(locked, BEN)
    for who, word in ((anna, "ANNAS"), (ben, "BENS")):
        who.chat.completions.create(
            model="gsco", messages=[asked(f"{word} case")], metadata={"thread": "case-1"}
        )
    for who, own, other in ((anna, "ANNAS", "BENS"), (ben, "BENS", "ANNAS")):
        listed = who.get("/threads", cast_to=list[dict])
        assert [one["thread_id"] for one in listed] == ["case-1"] and own in listed[0]["title"]
        record = who.get("/threads/case-1", cast_to=dict)
        assert own in str(record) and other not in str(record)
    anna.delete("/threads/case-1", cast_to=type(None))
    with pytest.raises(NotFoundError, match="no conversation named 'case-1'"):
        anna.get("/threads/case-1", cast_to=dict)
    assert ben.get("/threads/case-1", cast_to=dict)["status"] == "ready"
    with pytest.raises(AuthenticationError, match="GSCO_API_KEYS"):
        client(locked, "no-such-key").models.list()


def test_a_person_decides(make_gsco, pictures):
    with make_gsco(review="always") as gsco, served(gsco) as address:
        openai = client(address)
        talk = [asked("What is this?", pictures.shade("dark", 74))]
        answer = openai.chat.completions.create(model="gsco", messages=talk, metadata=SHADE)
        told, words = answer.model_extra["gsco"], answer.choices[0].message.content
        assert told["review"]["reasons"] == ["Every diagnosis is reviewed here."]
        assert "A person must decide" in words and f"/v1/threads/{told['thread']}/decision" in words
        path = f"/threads/{told['thread']}/decision"
        for body, code in (
            ({"action": "reject", "reviewer": "Dr A"}, "invalid_request"),
            ({"action": "edit", "reviewer": "Dr A", "reason": "seen", "labels": ["purple"]}, "task_error"),
            ({"action": "approve", "reviewer": ""}, "invalid_request"),
        ):
            with pytest.raises(BadRequestError) as caught:
                openai.post(path, body=body, cast_to=dict)
            assert caught.value.code == code
        kept = {"metadata": {"thread": told["thread"]}}
        with pytest.raises(ConflictError, match="a person must decide"):
            openai.chat.completions.create(model="gsco", messages=[asked("Go on")], **kept)
        edited = {"action": "edit", "reviewer": "Dr A", "reason": "I looked", "labels": ["bright"]}
        turn = openai.post(path, body=edited, cast_to=dict)
        assert turn["diagnosis"]["label"] == "bright"
        decision = turn["diagnosis"]["review"]["decision"]
        assert (decision["reviewer"], decision["reason"]) == ("Dr A", "I looked")
        assert turn["diagnosis"]["review"]["at"] and turn["review"] is None
        with pytest.raises(BadRequestError, match="not waiting for a decision"):
            openai.post(path, body=edited, cast_to=dict)


def test_with_keys_the_record_says_whose_key_decided(make_gsco, pictures):
    from gsco.agent.auth import Users

    from .conftest import KEYS

    with make_gsco(review="always") as gsco, served(gsco, ServerPolicy(users=Users.parse(KEYS))) as address:
        anna = client(address, ANNA)
        answer = anna.chat.completions.create(
            model="gsco", messages=[asked("?", pictures.shade("dark", 75))], metadata=SHADE
        )
        path = f"/threads/{answer.model_extra['gsco']['thread']}/decision"
        body = {"action": "approve"}
        with pytest.raises(NotFoundError):
            client(address, BEN).post(path, body=body, cast_to=dict)
        with pytest.raises(PermissionDeniedError, match="leave the name out"):
            anna.post(path, body={**body, "reviewer": "Dr B"}, cast_to=dict)
        turn = anna.post(path, body=body, cast_to=dict)
        assert turn["diagnosis"]["review"]["decision"]["reviewer"] == "anna"


def test_what_takes_too_long_is_given_up(gsco, pictures):
    with served(gsco, ServerPolicy(seconds=0.001)) as address:
        openai, talk = client(address), [asked("?", pictures.shade("dark", 76))]
        with pytest.raises(InternalServerError, match="GSCO_API_TIMEOUT") as caught:
            openai.chat.completions.create(model="gsco", messages=talk)
        assert caught.value.status_code == 504
        with pytest.raises(Exception, match="GSCO_API_TIMEOUT"):
            list(openai.chat.completions.create(model="gsco", messages=talk, stream=True))
    assert gsco.threads() == []


def test_a_generalist_that_is_gone_is_a_bad_gateway(make_gsco, pictures):
    with (
        make_gsco(generalist_url="http://127.0.0.1:9/v1", generalist_model="meddr") as gsco,
        served(gsco) as address,
    ):
        with pytest.raises(APIStatusError) as caught:
            client(address).chat.completions.create(
                model="gsco", messages=[asked("?", pictures.shade("dark", 77))]
            )
        assert caught.value.status_code == 502 and "127.0.0.1:9" in str(caught.value)


def test_an_image_over_the_limit(make_gsco):
    with make_gsco(max_image_pixels=10_000) as gsco, served(gsco) as address:
        with pytest.raises(APIStatusError, match="200 × 100 pixels") as caught:
            client(address).chat.completions.create(
                model="gsco", messages=[asked("?", Image.new("L", (200, 100)))]
            )
        assert caught.value.status_code == 413 and caught.value.code == "image_too_large"


def test_a_request_over_the_limit(gsco, make_image):
    with served(gsco, ServerPolicy(max_bytes=2000)) as address:
        with pytest.raises(APIStatusError, match="smaller images") as caught:
            client(address).chat.completions.create(
                model="gsco", messages=[asked("?", make_image("RGB", (80, 80)))]
            )
        assert caught.value.status_code == 413


def test_a_data_uri_of_any_kind(openai, pictures):
    url = data_uri(pictures.shade("dark", 78), "WEBP").replace("image/webp", "image/webp;charset=utf-8")
    talk = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url, "detail": "low"}}]}]
    answer = openai.chat.completions.create(model="gsco", messages=talk, metadata=SHADE)
    assert answer.model_extra["gsco"]["diagnosis"]["label"] in ("dark", "bright")
