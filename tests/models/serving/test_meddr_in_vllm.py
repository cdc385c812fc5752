"""A checkpoint of exactly MedDr's layout in a real vLLM, against the reference's forward pass."""

from __future__ import annotations

import base64
import io
import json
import math
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from gsco.case import Answer, Case
from gsco.images import ImageStore
from gsco.models.generalist.openai_compatible import OpenAICompatibleGeneralist
from gsco.models.generalist.prompts import PROFILES
from gsco.models.generalist.protocol import Choice
from gsco.models.mini.samples import Sample, samples
from gsco.models.serving.process import Server
from gsco.tasks import builtin_tasks
from PIL import Image

from .meddr import Reference

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]

PROMPTS = 20
NEW = 16


@pytest.fixture(scope="module")
def reference(vllm_meddr: Server) -> Reference:
    return Reference(vllm_meddr.log.parent / "meddr-tiny")


def ask(server: Server, image: Image.Image, text: str) -> tuple[list[int], list[int]]:
    """Token ids of prompt and greedy answer."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    blocks = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": text}]
    body = {
        "model": server.launch.profile.name,
        "messages": [{"role": "user", "content": blocks}],
        "temperature": 0,
        "max_completion_tokens": NEW,
        "return_token_ids": True,
    }
    request = urllib.request.Request(
        f"{server.url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as response:
        answer: Any = json.load(response)
    return answer["prompt_token_ids"], answer["choices"][0]["token_ids"]


def prompts() -> list[tuple[Sample, str]]:
    """Bundled images, each with the prompt of its task."""
    chosen = samples()[:: len(samples()) // PROMPTS][:PROMPTS]
    made = []
    for number, sample in enumerate(chosen):
        task = builtin_tasks()[sample.task]
        made.append((sample, f"{PROFILES['paper'].closed_text(task)}{number}"))
    return made


def test_greedy_answers_are_the_references(vllm_meddr: Server, reference: Reference) -> None:
    assert len(prompts()) == PROMPTS
    different, answers = [], set()
    for sample, text in prompts():
        image = Image.open(sample.path).convert("RGB")
        asked, said = ask(vllm_meddr, image, text)
        assert asked == reference.ids(text), "the prompt is read otherwise than the reference reads it"
        expected, lead = reference.answer(image, text, NEW)
        answers.add(tuple(expected))
        if [id for id in said if id not in reference.ends] != expected:
            different.append((sample.file, lead))
    assert different == []
    assert len(answers) > PROMPTS // 2, "the answers hardly depend on what is asked"


def test_the_other_order_of_the_pixel_shuffle_would_be_seen(reference: Reference) -> None:
    """What ``ps_version`` decides changes the answers, so that equal ones say that it is right."""
    sample, text = prompts()[0]
    image = Image.open(sample.path)
    one = reference.answer(image, text, NEW)[0]
    features = reference.features(image)
    side = math.isqrt(len(features))
    turned = features.reshape(side, side, -1).transpose(0, 1).reshape(features.shape)
    reference.features = lambda image: turned  # type: ignore[method-assign]
    try:
        assert reference.answer(image, text, NEW)[0] != one
    finally:
        del reference.features


def test_choosing_gives_the_references_likelihoods(
    vllm_meddr: Server, reference: Reference, tmp_path: Path
) -> None:
    images = ImageStore(tmp_path)
    generalist = OpenAICompatibleGeneralist(vllm_meddr.url, images)
    assert (generalist.mode, generalist.tool_level) == ("strings", "constrained")
    sample = samples("brain_mri")[0]
    task, case = builtin_tasks()["brain_mri"], Case(id="c", images=(images.put(sample.path),))
    (answer,) = generalist.choose([Choice(PROFILES["paper"].closed_messages(task, case), task.options)])
    assert isinstance(answer, Answer)
    scores = [
        _likelihood(reference, Image.open(sample.path), PROFILES["paper"].closed_text(task), option)
        for option in task.options
    ]
    total = math.fsum(math.exp(score - max(scores)) for score in scores)
    for option, score in zip(task.options, scores, strict=True):
        assert answer.probabilities[option] == pytest.approx(math.exp(score - max(scores)) / total, abs=1e-3)


@torch.inference_mode()
def _likelihood(reference: Reference, image: Image.Image, text: str, option: str) -> float:
    """Log-likelihood that the answer is exactly this option."""
    asked = reference.ids(text)
    said = reference.pieces.encode(f"{option}<|im_end|>")
    ids = torch.tensor([asked + said])
    words = reference.language.get_input_embeddings()(ids)
    words[0, ids[0] == reference.added["<IMG_CONTEXT>"]] = reference.features(image)
    table = reference.language(inputs_embeds=words).logits[0].log_softmax(-1)
    return sum(table[len(asked) - 1 + place, id].item() for place, id in enumerate(said))
