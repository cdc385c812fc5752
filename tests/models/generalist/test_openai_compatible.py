"""The client against a real HTTP server that speaks vLLM's dialect around the tiny model.

The server computes everything its own way (transformers' processor, one pass per prompt), so that equal
answers mean that the client asked and read rightly.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from gsco.case import Answer, Case, ImageRef, Task
from gsco.errors import AnswerUnparsed, GeneralistError
from gsco.images import ImageStore
from gsco.models.generalist import (
    AsyncGeneralist,
    Choice,
    Generalist,
    discovery,
    load_generalist,
    option_choice,
)
from gsco.models.generalist.in_process import InProcessGeneralist
from gsco.models.generalist.messages import message
from gsco.models.generalist.openai_compatible import OpenAICompatibleGeneralist
from gsco.models.generalist.option_choice import beyond_common_beginning, lettered
from gsco.models.generalist.prompts import PROFILES
from gsco.models.serving.profiles import profile_of
from gsco.settings import Settings
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from PIL import Image
from pydantic import SecretStr

TASK = Task(name="t", modality="pathology", options=("normal", "tumor", "normal tumor", "benign"))
KEY = "sk-very-secret"


class PatientServer(ThreadingHTTPServer):
    """Its queue holds all that a test asks at once, however slowly the machine takes them up."""

    request_queue_size = 128


@tool
def look(image: str) -> str:
    """Look at an image."""
    return image


class TinyServer:
    """What the handler shares: the model, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self.model: Any = AutoModelForImageTextToText.from_pretrained(folder).eval()
        self.lock = threading.Lock()
        self.asked: list[dict[str, Any]] = []
        self.trouble: list[int] = []
        self.owner = "vllm"
        self.key: str | None = None
        self.says: str | None = None
        self.logprobs = True
        self.parser = True
        self.ends = True

    def inputs(self, body: dict[str, Any]) -> Any:
        turns, images = [], []
        for turn in body["messages"]:
            blocks: Any = turn["content"]
            if isinstance(blocks, list):
                assert turn["role"] == "user"
                for block in blocks:
                    if block["type"] == "image_url":
                        data = base64.b64decode(block["image_url"]["url"].partition(",")[2])
                        images.append(Image.open(io.BytesIO(data)).convert("RGB"))
                blocks = [{"type": "image"} if b["type"] == "image_url" else b for b in blocks]
            turns.append({"role": turn["role"], "content": blocks})
        if body.get("continue_final_message"):
            assert body["add_generation_prompt"] is False
            last = turns.pop()["content"]
            text = self.template(turns, True) + last
        else:
            text = self.template(turns, body.get("add_generation_prompt", True))
        return self.processor(text=[text], images=images or None, return_tensors="pt", crop_to_patches=False)

    def template(self, turns: list[Any], answer_follows: bool) -> str:
        text = self.processor.apply_chat_template(turns, add_generation_prompt=answer_follows)
        return text if self.ends else text.replace("<|im_end|>", "")

    @torch.inference_mode()
    def complete(self, body: dict[str, Any]) -> tuple[str, list[Any] | None]:
        inputs = self.inputs(body)
        ids = inputs["input_ids"][0]
        if ids.shape[0] > 512:
            raise ValueError("This model's maximum context length is 512 tokens")
        listed = None
        if body.get("prompt_logprobs") is not None and self.logprobs:
            table = self.model(**inputs).logits[0].log_softmax(-1)
            chosen = table[:-1].gather(1, ids[1:, None])[:, 0].tolist()
            listed = [
                None,
                *({str(i): {"logprob": v}} for i, v in zip(ids[1:].tolist(), chosen, strict=True)),
            ]
        if body.get("logprobs"):
            self.likeliest = self._likeliest(inputs, body)
        if self.says is not None:
            return self.says, listed
        choices = body.get("structured_outputs", {}).get("choice")
        new = (
            self.held_to(choices, inputs)
            if choices
            else self.model.generate(
                **inputs, max_new_tokens=body.get("max_completion_tokens", 8), do_sample=False
            )[0, ids.shape[0] :].tolist()
        )
        return self.processor.decode(new, skip_special_tokens=True), listed

    def _likeliest(self, inputs: Any, body: dict[str, Any]) -> list[dict[str, Any]]:
        """As vLLM lists them: the wanted ids, or the likeliest."""
        row = self.model(**inputs).logits[0, -1].log_softmax(-1)
        ids = body.get("logprob_token_ids") or row.topk(body["top_logprobs"]).indices.tolist()
        name = (
            "token_id:{}".format
            if body.get("return_tokens_as_token_ids")
            else self.processor.tokenizer.decode
        )
        return [{"token": name(id), "logprob": row[id].item()} for id in ids]

    def held_to(self, choices: list[str], inputs: Any) -> list[int]:
        """Greedy writing that can only spell one of the choices."""
        end = self.processor.tokenizer.eos_token_id
        left = [[*self.processor.tokenizer(choice)["input_ids"], end] for choice in choices]
        written: list[int] = []
        while not written or written[-1] != end:
            extended = dict(inputs) | {
                "input_ids": torch.cat([inputs["input_ids"], torch.tensor([written]).long()], 1)
            }
            extended.pop("attention_mask")
            logits = self.model(**extended).logits[0, -1]
            allowed = sorted({ids[len(written)] for ids in left})
            written.append(max(allowed, key=lambda id: logits[id].item()))
            left = [ids for ids in left if ids[: len(written)] == written]
        return written


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    tiny: ClassVar[TinyServer]

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self.reply(
                {"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": self.tiny.owner}]}
            )
        else:
            self.reply({"error": {"message": "no such page"}}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.tiny.key and self.headers["Authorization"] != f"Bearer {self.tiny.key}":
            return self.reply({"error": {"message": "bad key"}}, 401)
        if self.path == "/tokenize" and "messages" in body:
            ids = self.tiny.inputs(body)["input_ids"][0].tolist()
            return self.reply({"count": len(ids), "tokens": ids})
        if self.path == "/detokenize":
            return self.reply({"prompt": self.tiny.processor.tokenizer.decode(body["tokens"])})
        if self.path == "/tokenize":
            ids = self.tiny.processor.tokenizer(body["prompt"], add_special_tokens=False)["input_ids"]
            return self.reply({"count": len(ids), "tokens": ids})
        if self.path != "/v1/chat/completions" or body["model"] != "tiny":
            return self.reply({"error": {"message": "not found"}}, 404)
        if self.tiny.trouble:
            return self.reply({"error": {"message": f"the patient said {body}"}}, self.tiny.trouble.pop(0))
        if body.get("tools") and not self.tiny.parser:
            return self.reply({"error": {"message": '"auto" tool choice requires --tool-call-parser'}}, 400)
        return self.answer(body)

    def answer(self, body: dict[str, Any]) -> None:
        try:
            with self.tiny.lock:
                self.tiny.asked.append(body)
                text, listed = self.tiny.complete(body)
        except ValueError as error:
            return self.reply({"error": {"message": str(error)}}, 400)
        if body.get("stream"):
            return self.stream(text)
        message: dict[str, Any] = {"role": "assistant", "content": text}
        listed_tokens = {"content": [{"top_logprobs": self.tiny.likeliest}]} if body.get("logprobs") else None
        if body.get("tools"):
            call = {"name": body["tools"][0]["function"]["name"], "arguments": '{"image": "img-1"}'}
            message["tool_calls"] = [{"id": "1", "type": "function", "function": call}]
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "tiny",
            "prompt_logprobs": listed,
            "usage": {"prompt_tokens": self.tiny.inputs(body)["input_ids"].shape[1]},
        }
        choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": listed_tokens}
        return self.reply({**answer, "choices": [choice]})

    def stream(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for i, piece in enumerate(text):
            delta = {"content": piece} | ({"role": "assistant"} if i == 0 else {})
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "tiny"}
            reason = "stop" if i == len(text) - 1 else None
            chunk |= {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def reply(self, body: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def serving(tiny_folder: Path) -> Iterator[tuple[str, TinyServer]]:
    tiny = TinyServer(tiny_folder)
    handler = type("TinyHandler", (Handler,), {"tiny": tiny})
    server = PatientServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", tiny
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(serving: tuple[str, TinyServer]) -> Iterator[TinyServer]:
    tiny = serving[1]
    yield tiny
    tiny.asked.clear()
    tiny.trouble.clear()
    tiny.owner, tiny.key, tiny.says = "vllm", None, None
    tiny.logprobs = tiny.parser = tiny.ends = True


@pytest.fixture
def url(serving: tuple[str, TinyServer]) -> str:
    return serving[0]


def choice(*refs: ImageRef, options: tuple[str, ...] = TASK.options) -> Choice:
    return Choice(PROFILES["paper"].closed_messages(TASK, Case(id="c", images=refs)), options)


def choices(refs: list[ImageRef]) -> list[Choice]:
    return [*map(choice, refs), choice(refs[0], refs[3], options=TASK.options[:2])]


def client(url: str, images: ImageStore, **options: Any) -> OpenAICompatibleGeneralist:
    return OpenAICompatibleGeneralist(
        url, images, **({"model": "tiny", "retries": 0, "timeout": 20.0} | options)
    )


def test_strings_over_http_equal_the_in_process_distribution(
    url: str, server: TinyServer, images: ImageStore, refs: list[ImageRef], tiny: InProcessGeneralist
) -> None:
    generalist = client(url, images)
    assert isinstance(generalist, Generalist) and isinstance(generalist, AsyncGeneralist)
    requests = choices(refs)
    for here, there in zip(tiny.choose(requests), generalist.choose(requests), strict=True):
        assert isinstance(here, Answer)
        assert isinstance(there, Answer)
        assert there.probabilities == pytest.approx(here.probabilities, abs=1e-4)
        assert (there.labels, there.parse) == (here.labels, "probabilities")
    assert len(server.asked) == 4 * 6 + 2


def test_decoding_is_held_to_the_options_by_vllm(
    url: str, server: TinyServer, images: ImageStore, refs: list[ImageRef]
) -> None:
    answers = client(url, images, mode="decode").choose(choices(refs))
    assert all(isinstance(answer, Answer) and answer.probabilities is None for answer in answers)
    assert {answer.parse for answer in answers if isinstance(answer, Answer)} == {"exact"}
    # They are asked all at once, so in any order.
    assert {"choice": list(TASK.options)} in [asked["structured_outputs"] for asked in server.asked]


def test_other_servers_get_plain_requests_and_the_text_is_matched(
    url: str, server: TinyServer, images: ImageStore, refs: list[ImageRef]
) -> None:
    server.owner = "somebody"
    server.says = "<think>Is it a tumor? No.</think>Healthy tissue."
    generalist = client(url, images)
    request = choice(refs[0])
    (failed,) = generalist.choose([request])
    assert isinstance(failed, AnswerUnparsed)
    known = Choice(request.messages, request.options, {"normal": ("healthy tissue",)})
    (answer,) = generalist.choose([known])
    assert isinstance(answer, Answer)
    assert (answer.labels, answer.parse, answer.probabilities) == (("normal",), "alias", None)
    unusual = {"structured_outputs", "prompt_logprobs", "continue_final_message"}
    assert not any(unusual & set(body) for body in server.asked)


def test_strings_without_log_probabilities_say_what_to_use(
    url: str, server: TinyServer, images: ImageStore, refs: list[ImageRef]
) -> None:
    server.logprobs = False
    (failed,) = client(url, images, mode="strings").choose([choice(refs[0])])
    assert isinstance(failed, GeneralistError)
    assert "'decode'" in str(failed)


def test_generate_and_stream_equal_the_in_process_text(
    url: str, server: TinyServer, images: ImageStore, refs: list[ImageRef], tiny: InProcessGeneralist
) -> None:
    generalist = client(url, images)
    prompts = [request.messages for request in choices(refs)[:3]]
    assert generalist.generate(prompts, max_new_tokens=12) == tiny.generate(prompts, max_new_tokens=12)
    pieces = list(generalist.stream(prompts[0], max_new_tokens=12))
    assert len(pieces) > 1
    assert "".join(pieces).strip() == tiny.generate(prompts[:1], max_new_tokens=12)[0]
    invoked = generalist.chat_model().invoke(list(prompts[0]), max_tokens=12)
    assert invoked.text.strip() == "".join(pieces).strip()


def test_chat_models_serve_one_event_loop_after_another(
    url: str, server: TinyServer, images: ImageStore, refs: list[ImageRef]
) -> None:
    generalist = client(url, images)
    prompt = list(choice(refs[0]).messages)

    async def ask() -> str:
        return (await generalist.chat_model().ainvoke(prompt, max_tokens=4)).text

    # A connection that was kept alive by a loop that is closed would break the next one's request.
    said = [asyncio.run(ask()) for _ in range(3)]
    assert said[0] == said[1] == said[2]


def test_pixels_arrive_unchanged_and_only_in_user_messages(
    url: str, server: TinyServer, images: ImageStore, refs: list[ImageRef]
) -> None:
    messages = [
        *choice(refs[0]).messages,
        AIMessage("looking"),
        ToolMessage("seen <|im_end|>", tool_call_id="1"),
    ]
    client(url, images).generate([messages], max_new_tokens=2)
    turns = server.asked[0]["messages"]
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "tool"]
    sent = base64.b64decode(turns[1]["content"][0]["image_url"]["url"].partition(",")[2])
    assert Image.open(io.BytesIO(sent)).tobytes() == images.get(refs[0]).tobytes()
    assert "image" not in json.dumps([turns[0], turns[2], turns[3]])
    assert turns[3]["content"] == "seen ‹|im_end|›"


def test_large_images_are_sent_smaller(url: str, server: TinyServer, images: ImageStore) -> None:
    large = images.put(Image.new("L", (4096, 1024), 7))
    case = Case(id="c", images=(large,))
    client(url, images).generate([PROFILES["paper"].closed_messages(TASK, case)], max_new_tokens=1)
    sent = server.asked[0]["messages"][1]["content"][0]["image_url"]["url"].partition(",")[2]
    assert Image.open(io.BytesIO(base64.b64decode(sent))).size == (2048, 512)


class Counted(ImageStore):
    """Counts how often a picture is taken out, and how far that is ahead of the server."""

    def __init__(self, folder: Path, server: TinyServer) -> None:
        super().__init__(folder)
        self.server, self.taken, self.ahead = server, 0, 0

    def get(self, ref: ImageRef | str) -> Image.Image:
        self.taken += 1
        self.ahead = max(self.ahead, self.taken - len(self.server.asked))
        time.sleep(0.05)
        return super().get(ref)


def test_an_image_of_many_questions_is_encoded_once(url: str, server: TinyServer, images: ImageStore) -> None:
    store = Counted(images.folder, server)
    ref = store.put(Image.new("L", (64, 64), 7))
    server.says = "tumor"
    answers = client(url, store, mode="decode").choose([choice(ref)] * 12)
    assert all(isinstance(answer, Answer) for answer in answers)
    assert (store.taken, len(server.asked)) == (1, 12)


def test_waiting_questions_do_not_hold_their_pixels(url: str, server: TinyServer, images: ImageStore) -> None:
    store = Counted(images.folder, server)
    refs = [store.put(Image.new("L", (32, 32), shade)) for shade in range(40)]
    server.says = "tumor"
    answers = client(url, store, mode="decode", concurrency=2).choose([choice(ref) for ref in refs])
    assert all(isinstance(answer, Answer) for answer in answers)
    assert store.taken == 40
    assert store.ahead <= 4


def test_tools_are_called_by_the_server(url: str, server: TinyServer, images: ImageStore) -> None:
    called = client(url, images).call_tools([HumanMessage("look")], [look])
    assert called.tool_calls[0]["name"] == "look"
    assert called.tool_calls[0]["args"] == {"image": "img-1"}


def test_letters_are_the_strings_of_a_question_with_letters(
    url: str, server: TinyServer, images: ImageStore, refs: list[ImageRef]
) -> None:
    asked = choice(refs[0])
    letters = client(url, images, mode="letters").choose([asked])[0]
    assert isinstance(letters, Answer)
    (row,) = [body for body in server.asked if body.get("logprobs")]
    assert len(row["logprob_token_ids"]) >= 4 and "structured_outputs" not in row
    # The same by another way: each letter as the whole answer, read from the prompt's log-probabilities.
    spelt = Choice(lettered(asked), tuple("ABCD"))
    strings = client(url, images, mode="strings")
    tokens = [strings._loop.run(_tokens_of(strings, spelt, letter))[-1][1] for letter in "ABCD"]
    total = sum(map(math.exp, tokens))
    assert list(letters.probabilities.values()) == pytest.approx(
        [math.exp(t) / total for t in tokens], abs=0.02
    )
    assert letters.mass == pytest.approx(total, rel=0.05)


async def _tokens_of(generalist: OpenAICompatibleGeneralist, request: Choice, text: str) -> Any:
    extra = {"continue_final_message": True, "add_generation_prompt": False, "prompt_logprobs": 0}
    asked = generalist._choice_request
    body = await option_choice._body(asked, request.messages, max_tokens=1, extra_body=extra)
    return await option_choice._tokens_with(body, text, asked)


def test_letters_of_another_server_come_from_its_likeliest_tokens(
    url: str, server: TinyServer, images: ImageStore, refs: list[ImageRef]
) -> None:
    server.owner = "somebody"
    (answer,) = client(url, images, mode="letters").choose([choice(refs[0])])
    (row,) = [body for body in server.asked if body.get("logprobs")]
    assert row["top_logprobs"] == 20 and "logprob_token_ids" not in row
    if isinstance(answer, Answer):  # a random model need not have a letter among them
        assert sum(answer.probabilities.values()) == pytest.approx(1)
    else:
        assert isinstance(answer, AnswerUnparsed) and "letter" in str(answer)


def test_tools_without_a_parser_are_called_by_the_form_of_the_answer(
    url: str, server: TinyServer, images: ImageStore, refs: list[ImageRef]
) -> None:
    server.parser = False
    server.says = '{"tool": "look", "arguments": {"image": "img-1"}}'
    generalist = client(url, images)
    assert generalist.tool_level == "constrained"
    called = generalist.call_tools([message("human", "look", [refs[0].id])], [look])
    assert [(call["name"], call["args"]) for call in called.tool_calls] == [("look", {"image": "img-1"})]
    sent = server.asked[-1]
    assert sent["structured_outputs"]["disable_any_whitespace"] is True
    assert [one["properties"]["tool"]["const"] for one in sent["structured_outputs"]["json"]["anyOf"]] == [
        "look",
        "answer",
    ]
    assert "tools" not in sent and "Look at an image." in sent["messages"][0]["content"]


def test_the_chat_model_binds_tools_at_the_same_level(
    url: str, server: TinyServer, images: ImageStore
) -> None:
    server.parser = False
    server.says = '{"tool": "answer", "arguments": {"text": "nothing to see"}}'
    bound = client(url, images).chat_model().bind_tools([look])
    assert bound.invoke("look").text == "nothing to see"
    assert asyncio.run(bound.ainvoke("look")).text == "nothing to see"
    (chunk,) = [chunk for chunk in bound.stream("look") if chunk.content]
    assert chunk.text == "nothing to see"


def test_another_server_is_held_to_a_form_where_it_can(
    url: str, server: TinyServer, images: ImageStore
) -> None:
    server.owner, server.parser, server.says = "somebody", False, '{"yes": true}'
    generalist = client(url, images)
    assert generalist.tool_level == "constrained"
    server.says = '{"tool": "look", "arguments": {"image": "img-1"}}'
    assert generalist.call_tools([HumanMessage("look")], [look]).tool_calls
    assert server.asked[-1]["response_format"]["json_schema"]["strict"] is True


def test_a_server_without_any_way_says_so(url: str, server: TinyServer, images: ImageStore) -> None:
    server.owner, server.parser, server.says = "somebody", False, "Yes!"
    generalist = client(url, images)
    assert generalist.tool_level == "none"
    with pytest.raises(GeneralistError, match="the fixed diagnosis needs none"):
        generalist.call_tools([HumanMessage("look")], [look])


def test_the_level_is_found_out_once_and_can_be_set(url: str, server: TinyServer, images: ImageStore) -> None:
    generalist = client(url, images)
    assert (generalist.tool_level, generalist.tool_level) == ("native", "native")
    assert len(server.asked) == 1
    server.asked.clear()
    assert client(url, images, tools="constrained").tool_level == "constrained"
    assert server.asked == []


def test_answers_are_counted_by_how_they_were_found(
    url: str, server: TinyServer, images: ImageStore, refs: list[ImageRef]
) -> None:
    server.owner = "somebody"
    generalist = client(url, images)
    for server.says in ("normal", "healthy", "who knows"):
        generalist.choose([Choice(choice(refs[0]).messages, TASK.options, {"normal": ("healthy",)})])
    generalist.choose([choice(ImageRef(sha256="e" * 64, width=4, height=4))])
    assert generalist.counts == {"exact": 1, "alias": 1, "unparsed": 1, "failed": 1}


def test_a_profile_sends_the_ends_that_its_checkpoint_lacks(
    url: str, server: TinyServer, images: ImageStore
) -> None:
    generalist = client(url, images, model="meddr")
    generalist._chat.model_name = generalist._own.model_name = "tiny"
    generalist.generate([[HumanMessage("x")]], max_new_tokens=2)
    assert server.asked[0]["stop_token_ids"] == [2, 6, 7, 8]


def test_control_tokens_are_broken_up_whoever_wrote_them(
    url: str, server: TinyServer, images: ImageStore
) -> None:
    said = [
        SystemMessage("a<|im_end|>"),
        HumanMessage("b<img>"),
        AIMessage("c</s>"),
        HumanMessage("d<image>"),
    ]
    client(url, images).generate([said], max_new_tokens=2)
    sent = json.dumps(server.asked[0]["messages"], ensure_ascii=False)
    assert "<" not in sent and all(f"{letter}‹" in sent for letter in "abcd")


def test_the_only_model_is_found(url: str, server: TinyServer, images: ImageStore) -> None:
    generalist = load_generalist(Settings(generalist_url=url), images)
    assert (generalist.name.partition(" at ")[0], generalist.version) == ("tiny", "tiny")
    assert generalist.choose([Choice([HumanMessage("x")], ("a", "b"))])[0].labels  # type: ignore[union-attr]


def test_an_unknown_image_fails_its_own_request_only(
    url: str, server: TinyServer, images: ImageStore, refs: list[ImageRef]
) -> None:
    gone = ImageRef(sha256="e" * 64, width=4, height=4)
    for mode in ("strings", "decode"):
        bad, good = client(url, images, mode=mode).choose([choice(gone), choice(refs[0])])
        assert isinstance(bad, GeneralistError)
        assert gone.id in str(bad)
        assert isinstance(good, Answer)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, r"refuses the request \(400\)"),
        (401, "API_KEY"),
        (403, "API_KEY"),
        (429, "no more requests"),
        (500, r"failed \(500\)"),
    ],
)
def test_errors_say_what_to_do_and_nothing_of_the_request(
    url: str, server: TinyServer, images: ImageStore, status: int, said: str
) -> None:
    server.trouble = [status] * 3
    generalist = client(url, images, api_key=SecretStr(KEY))
    secret = [HumanMessage("Mrs Miller")]
    (failed,) = generalist.generate([secret])
    assert isinstance(failed, GeneralistError)
    with pytest.raises(GeneralistError, match=said) as caught:
        raise failed
    (chosen,) = generalist.choose([Choice(secret, ("a",))])
    assert isinstance(chosen, GeneralistError)
    with pytest.raises(GeneralistError, match=said):
        list(generalist.stream(secret))
    assert "Miller" not in str(caught.value)
    assert KEY not in str(caught.value) + repr(generalist) + repr(generalist.chat_model()) + str(
        vars(generalist)
    )


def test_passing_trouble_is_retried(url: str, server: TinyServer, images: ImageStore) -> None:
    server.trouble = [503]
    assert isinstance(
        client(url, images, retries=2).generate([[HumanMessage("x")]], max_new_tokens=2)[0], str
    )


def test_the_key_is_sent_and_needed(url: str, server: TinyServer, images: ImageStore) -> None:
    server.key = KEY
    ask = [[HumanMessage("x")]]
    assert isinstance(client(url, images, api_key=SecretStr(KEY)).generate(ask, max_new_tokens=2)[0], str)
    assert "API_KEY" in str(client(url, images).generate(ask)[0])


def test_another_key_of_the_environment_is_never_sent(
    url: str, server: TinyServer, images: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.key = KEY
    assert "API_KEY" in str(client(url, images).generate([[HumanMessage("x")]])[0])


def test_a_wrong_model_and_a_wrong_address(url: str, server: TinyServer, images: ImageStore) -> None:
    assert "has no model 'huge'" in str(client(url, images, model="huge").generate([[HumanMessage("x")]])[0])
    nowhere = url.removesuffix("/v1") + "/v2"
    assert "404" in str(client(nowhere, images).generate([[HumanMessage("x")]])[0])


def test_an_address_without_its_version_is_named(url: str, images: ImageStore) -> None:
    bare = url.removesuffix("/v1")
    with pytest.raises(GeneralistError, match=rf"ends in /v1: try {url}"):
        OpenAICompatibleGeneralist(bare, images, retries=0)
    failed = client(bare, images).generate([[HumanMessage("x")]])[0]
    assert f"try {url}" in str(failed)


def test_a_prompt_that_is_too_long(url: str, server: TinyServer, images: ImageStore) -> None:
    assert "longer than" in str(client(url, images).generate([[HumanMessage("yes " * 600)]])[0])


def test_no_server(images: ImageStore) -> None:
    closed = "http://127.0.0.1:9/v1"
    generalist = client(closed, images)
    for failed in (
        *generalist.generate([[HumanMessage("x")]]),
        *generalist.choose([Choice([HumanMessage("x")], ("yes", "no"))]),
    ):
        assert "no server answers at http://127.0.0.1:9/v1" in str(failed)
    with pytest.raises(GeneralistError, match="no server answers"):
        OpenAICompatibleGeneralist(closed, images, retries=0)


@pytest.mark.parametrize("answer", [b"<html>hello</html>", b'{"half": ', b"[]", b'{"choices": []}'])
def test_a_server_of_another_kind(images: ImageStore, answer: bytes) -> None:
    class Strange(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if answer[:1] == b"<" else "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = PatientServer(("127.0.0.1", 0), Strange)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        generalist = client(f"http://127.0.0.1:{server.server_port}/v1", images)
        (failed,) = generalist.generate([[HumanMessage("x")]])
        assert isinstance(failed, GeneralistError)
        assert "OpenAI shape" in str(failed)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_that_hangs(images: ImageStore) -> None:
    import socket

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        generalist = client(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", images, timeout=0.2)
        assert "in time" in str(generalist.generate([[HumanMessage("x")]])[0])


def test_what_options_share_counts_in_their_mass(
    tiny: InProcessGeneralist, url: str, images: ImageStore, refs: list[ImageRef]
) -> None:
    graded = choice(refs[0], options=("grade tumor", "grade normal"))
    here, there = tiny.choose([graded])[0], client(url, images).choose([graded])[0]
    assert isinstance(here, Answer) and isinstance(there, Answer)
    assert there.probabilities == pytest.approx(here.probabilities, abs=1e-4)
    assert there.mass == pytest.approx(here.mass, rel=1e-3)


def test_without_an_end_of_turn_strings_are_refused(
    url: str, server: TinyServer, images: ImageStore, refs: list[ImageRef]
) -> None:
    """Else an option that begins another always wins: the longer one is the shorter one and more."""
    server.ends = False
    failed = client(url, images, mode="strings").choose([choice(refs[0])])[0]
    assert isinstance(failed, GeneralistError)
    assert "puts no token behind an answer" in str(failed) and "GSCO_GENERALIST_MODE=decode" in str(failed)
    assert client(url, images).mode == "decode"


def test_the_end_of_a_turn_is_that_of_the_served_template(url: str, images: ImageStore) -> None:
    assert client(url, images).endpoint.end_of_turn == "<|im_end|>"


def test_letters_are_refused_for_a_model_that_was_not_taught_them() -> None:
    for name in ("mini", "meddr"):
        known = discovery.Endpoint(("m",), True, "<|im_end|>", profile=profile_of(name))
        with pytest.raises(GeneralistError, match=f"{name} was not trained to answer by letters"):
            option_choice.mode_for("letters", known)
        assert option_choice.mode_for("auto", known) == "strings"


def test_sums_start_where_options_differ() -> None:
    options = [[(1, -5.0), (2, -1.0), (9, -0.5)], [(1, -5.0), (3, -2.0)], [(1, -5.0), (2, -1.0), (8, -3.0)]]
    assert beyond_common_beginning(options) == [-1.5, -2.0, -4.0]
    assert beyond_common_beginning([[(1, -1.0)]]) == [0]
