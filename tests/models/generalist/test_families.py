"""One contract for every layout of vision-language model, in this process and behind a real vLLM."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from gsco.case import Answer, ImageRef
from gsco.errors import GeneralistError
from gsco.images import ImageStore
from gsco.models.generalist import Choice, Generalist
from gsco.models.generalist.functions import Function, declared
from gsco.models.generalist.in_process import InProcessGeneralist
from gsco.models.generalist.messages import message
from gsco.models.generalist.openai_compatible import OpenAICompatibleGeneralist
from gsco.models.generalist.options import OPINION_MASS, is_opinion
from gsco.models.generalist.processing import ProcessorEncoder
from langchain_core.messages import BaseMessage
from pydantic import create_model

from ... import vllm
from .families import CALLS_TOOLS, FAMILIES, make_family

OPTIONS = ("normal", "normal tumor", "malignant", "glioma")
TOOL = declared(Function("classify", "Ask.", create_model("classify", image=str)))
ENDS = {
    "qwen2.5-vl": "<|im_end|>",
    "gemma3": "<end_of_turn>",
    "llava-onevision": "<|im_end|>",
    "idefics3": "<end_of_utterance>",
    "internvl": "<|im_end|>",
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_family(family, tmp_path_factory.mktemp("family") / family)


@pytest.fixture(scope="module")
def model(folder: Path, images: ImageStore) -> InProcessGeneralist:
    return InProcessGeneralist.load(folder, images, device="cpu")


def asked(*refs: ImageRef) -> list[BaseMessage]:
    return [
        message("system", "You are a helpful medical assistant."),
        message("human", "Which of these is it?", [ref.id for ref in refs]),
    ]


def questions(refs: list[ImageRef]) -> list[Choice]:
    """One image of each shape, two images, none."""
    shown = [*((ref,) for ref in refs[:4]), (refs[0], refs[4]), (refs[1], refs[1]), ()]
    return [Choice(asked(*each), OPTIONS) for each in shown]


class Plain:
    """What transformers' own documentation says to do, with one pass per option."""

    def __init__(self, family: str, folder: Path, images: ImageStore) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.family, self.images = family, images
        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self.model: Any = AutoModelForImageTextToText.from_pretrained(folder).eval()

    def inputs(self, messages: list[BaseMessage], answer: str = "") -> Any:
        system, question = messages
        pictures, content = [], [{"type": "text", "text": "Which of these is it?"}]
        if isinstance(question.content, list):
            found = [b["file_id"] for b in question.content if isinstance(b, dict) and b["type"] == "image"]
            pictures = [self.images.get(id) for id in found]
            content = [*({"type": "image"} for _ in pictures), *content]
        turns = [
            {"role": "system", "content": [{"type": "text", "text": system.content}]},
            {"role": "user", "content": content},
        ]
        if "messages[0].content + " in self.processor.chat_template:  # takes system text as a string only
            turns[0]["content"] = system.content
        text = self.processor.apply_chat_template(turns, add_generation_prompt=True) + answer
        more: dict[str, Any] = {"crop_to_patches": False} if self.family == "internvl" else {}
        if text.startswith("<bos>"):
            more["add_special_tokens"] = False
        pixels = [[p.convert("RGB") for p in pictures]] if pictures else None
        return self.processor(text=[text], images=pixels, return_tensors="pt", **more)

    @torch.inference_mode()
    def scores(self, request: Choice) -> dict[str, float]:
        start = self.inputs(list(request.messages))["input_ids"].shape[1]
        scores = {}
        for option in request.options:
            answer = (" " if self.family == "idefics3" else "") + option  # the template: "Assistant: text"
            inputs = self.inputs(list(request.messages), answer + ENDS[self.family])
            logits = self.model(**_known(self.model, inputs)).logits[0, start - 1 : -1].log_softmax(-1)
            scores[option] = logits.gather(1, inputs["input_ids"][0, start:, None]).sum().item()
        return scores

    @torch.inference_mode()
    def text(self, messages: list[BaseMessage], n: int) -> str:
        inputs = _known(self.model, self.inputs(messages))
        end = self.processor.tokenizer.convert_tokens_to_ids(ENDS[self.family])
        ids = self.model.generate(**inputs, max_new_tokens=n, do_sample=False, eos_token_id=end)
        new = ids[0, inputs["input_ids"].shape[1] :]
        return self.processor.tokenizer.decode(new, skip_special_tokens=True).strip()


def _known(model: Any, inputs: Any) -> dict[str, torch.Tensor]:
    import inspect

    taken = inspect.signature(model.forward).parameters
    return {name: value for name, value in inputs.items() if name in taken}


@pytest.fixture(scope="module")
def plain(family: str, folder: Path, images: ImageStore) -> Plain:
    return Plain(family, folder, images)


def answered(results: list[Answer | GeneralistError]) -> list[Answer]:
    assert all(isinstance(result, Answer) for result in results), results
    return [result for result in results if isinstance(result, Answer)]


def test_options_are_scored_as_the_whole_answer(
    model: InProcessGeneralist, plain: Plain, refs: list[ImageRef]
) -> None:
    assert isinstance(model, Generalist)
    requests = questions(refs)
    found = answered(model.choose(requests))
    for request, answer in zip(requests, found, strict=True):
        scores = plain.scores(request)
        total = math.fsum(map(math.exp, scores.values()))
        expected = {option: math.exp(score) / total for option, score in scores.items()}
        assert answer.probabilities == pytest.approx(expected, abs=1e-4)
        assert answer.mass == pytest.approx(total, rel=1e-3)
        # A random model believes in no option: what it prefers among them is no opinion.
        assert total < OPINION_MASS and not is_opinion(answer)
    values = {tuple(answer.probabilities.values()) for answer in found}
    assert len(values) == len(found), "the images make no difference"


def test_text_is_that_of_transformers(model: InProcessGeneralist, plain: Plain, refs: list[ImageRef]) -> None:
    prompts = [list(request.messages) for request in questions(refs)]
    assert model.generate(prompts, max_new_tokens=10) == [plain.text(prompt, 10) for prompt in prompts]


def test_streaming_gives_the_same_text(model: InProcessGeneralist, refs: list[ImageRef]) -> None:
    messages = asked(refs[0], refs[1])
    pieces = list(model.stream(messages, max_new_tokens=12))
    assert "".join(pieces).strip() == model.generate([messages], max_new_tokens=12)[0]
    said = model.chat_model().invoke(messages, max_tokens=12).text
    assert said == "".join(pieces)


def test_the_answer_ends_where_the_template_says(family: str, model: InProcessGeneralist) -> None:
    end = model._encoder.end_of_turn
    assert model._encoder.tokenizer.convert_ids_to_tokens(end) == ENDS[family]
    assert end in model._encoder.ends


def test_system_and_question_both_reach_the_model(model: InProcessGeneralist, refs: list[ImageRef]) -> None:
    text = model._encoder.render(asked(refs[0]))
    assert text.count("You are a helpful medical assistant.") == 1
    assert text.count("Which of these is it?") == 1


def test_tools_are_called_where_the_template_has_them(
    family: str, model: InProcessGeneralist, refs: list[ImageRef]
) -> None:
    if family not in CALLS_TOOLS:
        assert model.tool_level == "none"
        with pytest.raises(GeneralistError, match="shows no tools"):
            model.call_tools(asked(refs[0]), [TOOL])
        return
    assert model.tool_level == "native"
    said = model.call_tools(asked(refs[0]), [TOOL], max_new_tokens=6)
    assert said.text or said.tool_calls
    ids = model._encoder.prompts([asked(refs[0])], [TOOL if isinstance(TOOL, dict) else _listed()])[0].ids
    assert '"name": "classify"' in model._encoder.tokenizer.decode(ids)


def _listed() -> dict[str, Any]:
    from gsco.models.generalist.tool_calls import specifications

    return specifications([TOOL])[0]


def test_control_tokens_in_a_question_are_text(model: InProcessGeneralist, refs: list[ImageRef]) -> None:
    encoder = model._encoder
    attack = " ".join((ENDS_AND_IMAGES := encoder._control)[:12])
    plain_prompt, attacked = encoder.prompts(
        [
            [message("human", "x", [refs[0].id])],
            [message("human", f"x {attack} {encoder._placeholder_text}", [refs[0].id])],
        ]
    )
    assert not isinstance(plain_prompt, GeneralistError) and not isinstance(attacked, GeneralistError)
    for token in ENDS_AND_IMAGES:
        id = encoder.tokenizer.convert_tokens_to_ids(token)
        assert attacked.ids.count(id) == plain_prompt.ids.count(id), token


def test_an_image_that_is_gone_fails_its_own_request(
    model: InProcessGeneralist, refs: list[ImageRef]
) -> None:
    gone = ImageRef(sha256="e" * 64, width=4, height=4)
    good, bad = model.choose([Choice(asked(refs[0]), OPTIONS), Choice(asked(gone), OPTIONS)])
    assert isinstance(good, Answer) and isinstance(bad, GeneralistError)


def test_without_an_end_of_turn_options_are_refused(tmp_path: Path, images: ImageStore) -> None:
    """An option that begins another would always win: its ending is never asked for."""
    import json

    folder = make_family("idefics3", tmp_path / "endless")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template.replace("<end_of_utterance>", ""))
    model = InProcessGeneralist.load(folder, images, device="cpu")
    named = model._encoder.tokenizer.convert_ids_to_tokens(model._encoder.end_of_turn)
    assert named == "<end_of_utterance>", "the generation configuration says it too"
    for file in ("generation_config.json", "tokenizer_config.json", "config.json"):
        held = json.loads((folder / file).read_text())
        for part in (held, held.get("text_config", {})):
            part.pop("eos_token_id", None)
            part.pop("eos_token", None)
        (folder / file).write_text(json.dumps(held))
    with pytest.raises(GeneralistError, match=r"which token ends an answer.*eos_token_id"):
        InProcessGeneralist.load(folder, images, device="cpu")


def test_only_pixels_alone_are_packed(family: str, model: InProcessGeneralist) -> None:
    assert isinstance(model._encoder, ProcessorEncoder) == (family != "internvl")


@pytest.fixture(scope="module")
def server(family: str, folder: Path) -> Iterator[str]:
    if family == "internvl":
        pytest.skip("the bundled generalist is of this layout: test_vllm serves it")
    for running in vllm.served(
        str(folder),
        folder,
        "--dtype",
        "float32",
        "--max-model-len",
        "512",
        "--limit-mm-per-prompt",
        '{"image":2}',
    ):
        yield running.url


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_vllm_says_the_same(
    family: str, model: InProcessGeneralist, server: str, images: ImageStore, refs: list[ImageRef]
) -> None:
    served = OpenAICompatibleGeneralist(server, images)
    assert served.endpoint.end_of_turn == ENDS[family]
    requests = questions(refs)
    if family == "llava-onevision":  # "assistant" and a space before an answer's line, none in the opening
        assert served.mode == "decode"
        assert all(answer.labels[0] in OPTIONS for answer in answered(served.choose(requests)))
        return
    assert served.mode == "strings"
    for here, there in zip(answered(model.choose(requests)), answered(served.choose(requests)), strict=True):
        assert there.probabilities == pytest.approx(here.probabilities, abs=0.02)
        # vLLM resizes pixels a little otherwise, which shows in what is nearly impossible.
        assert there.mass == pytest.approx(here.mass, rel=0.5)
    text = served.generate([asked(refs[0])], max_new_tokens=8)[0]
    assert isinstance(text, str)
    assert "".join(served.stream(asked(refs[0]), max_new_tokens=8)).strip() == text
