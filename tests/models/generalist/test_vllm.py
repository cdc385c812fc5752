"""One model, two runtimes: the bundled generalist answers alike in this process and behind a real vLLM."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from gsco.agent.serving_verification import TOLERANCE, verify_serving
from gsco.benchmarks.perf.pictures import fresh_cases
from gsco.case import Answer, Case, ImageRef, Opinion, SimilarCase, TaskKind
from gsco.errors import GeneralistError, PromptTooLong
from gsco.images import ImageStore
from gsco.models.generalist.functions import declared, functions
from gsco.models.generalist.in_process import InProcessGeneralist
from gsco.models.generalist.messages import message
from gsco.models.generalist.openai_compatible import OpenAICompatibleGeneralist
from gsco.models.generalist.prompts import PROFILES
from gsco.models.generalist.protocol import Choice
from gsco.models.mini import bundled
from gsco.models.mini.samples import samples as bundled_samples
from gsco.models.serving.process import Server
from gsco.settings import Settings
from gsco.tasks import builtin_tasks

TASKS = ("chest_xray", "brain_mri", "busi", "lung_histology")
LABELS_EQUAL = 0.99
"""Share of 200 cases whose label must be the same in both runtimes."""
CLOSE = 0.005
"""So much may a probability differ between runtimes, and between two ways of reading the same one."""
LONG = 1900
"""Tokens of an answer that takes seconds."""
DECODED_EQUAL = 0.95
"""Share of cases where the answer that is written must be the likeliest option."""

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return ImageStore(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def local(images: ImageStore) -> InProcessGeneralist:
    return InProcessGeneralist.load(bundled("generalist"), images, dtype="float32")


@pytest.fixture(scope="module")
def served(vllm_mini: Server, images: ImageStore) -> OpenAICompatibleGeneralist:
    return OpenAICompatibleGeneralist(vllm_mini.url, images)


@pytest.fixture(scope="module")
def samples(images: ImageStore) -> list[tuple[str, ImageRef]]:
    """Task and image of every bundled sample."""
    return [(sample.task, images.put(sample.path)) for sample in bundled_samples()]


def arms(name: str, number: int) -> Iterator[tuple[Any, Any]]:
    """No evidence, and made-up evidence."""
    label = builtin_tasks()[name].options[number % len(builtin_tasks()[name].options)]
    said = Opinion(
        specialist="s", architecture="x", labels=(label,), probabilities={label: 0.7}, reliability=0.8
    )
    found = SimilarCase(id="i", sha256="0" * 64, task=name, labels=(label,), similarity=0.9, encoder="e")
    yield (), ()
    yield (said,), (found,)


def plain(samples: Sequence[tuple[str, ImageRef]]) -> list[Choice]:
    """Each image's own question, without evidence."""
    return [
        Choice(
            PROFILES["paper"].closed_messages(builtin_tasks()[name], Case(id="c", images=(ref,))),
            builtin_tasks()[name].options,
        )
        for name, ref in samples
    ]


def labels(answers: Sequence[Any]) -> list[tuple[str, ...]]:
    assert all(isinstance(answer, Answer) for answer in answers), answers
    return [answer.labels for answer in answers]


def gap(one: Any, other: Any) -> float:
    return max(abs(one.probabilities[label] - other.probabilities[label]) for label in one.probabilities)


def test_distributions_over_options_are_equal(
    local: InProcessGeneralist, served: OpenAICompatibleGeneralist, samples: list[tuple[str, ImageRef]]
) -> None:
    requests = []
    for number, (name, ref) in enumerate(samples):
        task, case = builtin_tasks()[name], Case(id=str(number), images=(ref,))
        for profile in PROFILES.values():
            for evidence in arms(name, number):
                requests.append(Choice(profile.closed_messages(task, case, *evidence), task.options))
    here, there = local.choose(requests), served.choose(requests)
    assert labels(here) == labels(there)
    assert len(requests) >= 50 and max(map(gap, here, there)) < CLOSE


def test_two_hundred_cases_get_the_same_labels(
    local: InProcessGeneralist, served: OpenAICompatibleGeneralist, images: ImageStore
) -> None:
    fresh = [(name, images.put(file)) for name in TASKS for file in fresh_cases(50, name)]
    assert _same(local, served, fresh) >= LABELS_EQUAL


@pytest.mark.datasets
def test_two_hundred_test_images_get_the_same_labels(
    local: InProcessGeneralist, served: OpenAICompatibleGeneralist, images: ImageStore
) -> None:
    folder = Path(os.environ.get("GSCO_TEST_DATASETS", ""))
    if not (folder / TASKS[0] / "labels.csv").is_file():
        pytest.skip("needs the data sets; GSCO_TEST_DATASETS names their folder")
    drawn = [(name, images.put(path)) for name in TASKS for path in _test_images(folder / name)[:50]]
    assert _same(local, served, drawn) >= LABELS_EQUAL


def _test_images(dataset: Path) -> list[Path]:
    with (dataset / "labels.csv").open(encoding="utf-8", newline="") as table:
        paths = [row["path"] for row in csv.DictReader(table) if row["split"] == "test"]
    return [dataset / path for path in sorted(paths, key=lambda path: hashlib.sha256(path.encode()).digest())]


def _same(local: Any, served: Any, cases: Sequence[tuple[str, ImageRef]]) -> float:
    """Share of cases with the same label."""
    assert len(cases) == 200
    requests = plain(cases)
    pairs = list(zip(labels(local.choose(requests)), labels(served.choose(requests)), strict=True))
    return sum(one == other for one, other in pairs) / len(pairs)


def test_what_is_written_is_the_likeliest_option(
    vllm_mini: Server,
    served: OpenAICompatibleGeneralist,
    images: ImageStore,
    samples: list[tuple[str, ImageRef]],
) -> None:
    writing = OpenAICompatibleGeneralist(vllm_mini.url, images, mode="decode")
    requests = plain(samples)
    pairs = list(zip(labels(served.choose(requests)), labels(writing.choose(requests)), strict=True))
    assert sum(one == other for one, other in pairs) >= DECODED_EQUAL * len(pairs)
    assert writing.counts == {"exact": len(pairs)}


def test_letters_are_refused_for_the_bundled_generalist(
    vllm_mini: Server, images: ImageStore, samples: list[tuple[str, ImageRef]]
) -> None:
    lettering = OpenAICompatibleGeneralist(vllm_mini.url, images, mode="letters")
    for request in plain(samples[::5]):
        (answer,) = lettering.choose([request])
        assert isinstance(answer, GeneralistError) and "letters" in str(answer)


def test_greedy_answers_are_equal(
    local: InProcessGeneralist, served: OpenAICompatibleGeneralist, samples: list[tuple[str, ImageRef]]
) -> None:
    requests = []
    for number, (name, ref) in enumerate(samples):
        kind = (TaskKind.QUESTION, TaskKind.REPORT)[number % 2]
        task = builtin_tasks()[name].model_copy(update={"kind": kind, "options": (), "negative": None})
        case = Case(id=str(number), images=(ref,), question="Which imaging modality is this?")
        requests.append(PROFILES["calibrated"].open_messages(task, case))
    assert local.generate(requests, max_new_tokens=48) == served.generate(requests, max_new_tokens=48)


def test_tool_calls_are_equal(
    local: InProcessGeneralist, served: OpenAICompatibleGeneralist, samples: list[tuple[str, ImageRef]]
) -> None:
    assert served.tool_level == "native"
    tools = _tools()
    for _, ref in samples[:: len(samples) // 6]:
        asked = [message("human", f"Image {ref.id}. What is the diagnosis?", [ref.id])]
        one, other = local.call_tools(asked, tools), served.call_tools(asked, tools)
        assert [(call["name"], call["args"]) for call in one.tool_calls] == [
            (call["name"], call["args"]) for call in other.tool_calls
        ]
        assert one.tool_calls and one.text == other.text


def test_a_model_is_held_to_the_form_of_a_call(
    vllm_mini: Server, images: ImageStore, samples: list[tuple[str, ImageRef]]
) -> None:
    held = OpenAICompatibleGeneralist(vllm_mini.url, images, tools="constrained")
    bound = held.chat_model().bind_tools(_tools(), tool_choice="any")
    for _, ref in samples[:: len(samples) // 4]:
        asked = [message("human", f"Image {ref.id}. What is the diagnosis?", [ref.id])]
        called = bound.invoke(asked, max_tokens=200)
        assert called.tool_calls[0]["name"] in ("classify", "retrieve_cases", "diagnose", "list_tasks")


def _tools() -> list[Any]:
    known = functions([builtin_tasks()[name] for name in TASKS])
    return [declared(function) for function in known.values()]


def test_arms_of_an_experiment_share_their_prefix(
    served: OpenAICompatibleGeneralist, samples: list[tuple[str, ImageRef]]
) -> None:
    """Hints come last: image and question are computed once. On a CPU the cache has blocks of 128 tokens."""
    name, ref = samples[0]
    task, case = builtin_tasks()[name], Case(id="c", images=(ref,), context="word " * 150)
    cached = []
    for evidence in arms(name, 0):
        asked = PROFILES["paper"].closed_messages(task, case, *evidence)
        body = served._choice_request.payload(asked, max_tokens=1)
        answer = served._loop.run(
            served._choice_request.post({k: v for k, v in body.items() if k != "extra_body"})
        )
        cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert cached[1] >= 128


def test_several_images_are_read_in_order(
    local: InProcessGeneralist, served: OpenAICompatibleGeneralist, samples: list[tuple[str, ImageRef]]
) -> None:
    ids = [ref.id for _, ref in samples[:3]]
    asked = [message("human", "What do these show?", ids)]
    assert served.prompt_ids(asked) == list(local.prompt_ids(asked))
    assert served.generate([asked], max_new_tokens=16) == local.generate([asked], max_new_tokens=16)


def test_too_many_images_and_too_long_a_prompt(
    served: OpenAICompatibleGeneralist, samples: list[tuple[str, ImageRef]]
) -> None:
    many, long = served.generate(
        [
            [message("human", "What?", [ref.id for _, ref in samples[:5]])],
            [message("human", "word " * 3000, [samples[0][1].id])],
        ]
    )
    assert isinstance(many, GeneralistError) and "at most 4 images" in str(many)
    assert isinstance(long, PromptTooLong)


def test_a_diagnosis_says_which_similar_cases_did_not_fit(
    vllm_mini: Server, tmp_path: Path, samples: list[tuple[str, ImageRef]]
) -> None:
    from gsco import GSCo

    sample = bundled_samples("chest_xray")[0]
    settings = {"home": tmp_path, "generalist_url": vllm_mini.url, "neighbours": 400, "moed": "off"}
    with GSCo.from_settings(**settings) as gsco:
        case = Case(id="c", images=(gsco.images.put(sample.path),), context="word " * 500)
        diagnosis = gsco.diagnose(case, task="chest_xray")
    missing = [one.reason for one in diagnosis.evidence.missing if one.source == "retrieval"]
    found = re.match(r"(\d+) of (\d+) similar cases, the farthest, were left out", missing[0])
    assert found and len(diagnosis.evidence.similar_cases) == int(found[2]) - int(found[1]) > 10


def test_an_answer_that_nobody_waits_for_is_stopped(vllm_mini: Server, images: ImageStore) -> None:
    generalist = OpenAICompatibleGeneralist(vllm_mini.url, images)
    generalist._own.extra_body = {"ignore_eos": True}
    running = f"{vllm_mini.url.removesuffix('/v1')}/metrics"
    before = _metric(running, "generation_tokens_total")

    async def give_up() -> None:
        asked = asyncio.ensure_future(generalist.agenerate([message("human", "Go on.")], max_new_tokens=LONG))
        await asyncio.to_thread(_until, lambda: _metric(running, "num_requests_running") == 1)
        asked.cancel()

    asyncio.run(give_up())
    _until(lambda: _metric(running, "num_requests_running") == 0)
    assert _metric(running, "generation_tokens_total") - before < LONG


def test_a_stream_that_is_closed_is_stopped(vllm_mini: Server, images: ImageStore) -> None:
    chat = OpenAICompatibleGeneralist(vllm_mini.url, images).chat_model()
    running = f"{vllm_mini.url.removesuffix('/v1')}/metrics"
    before = _metric(running, "generation_tokens_total")
    pieces = chat.stream("Go on.", max_tokens=LONG, extra_body={"ignore_eos": True})
    next(pieces)
    pieces.close()
    _until(lambda: _metric(running, "num_requests_running") == 0)
    assert _metric(running, "generation_tokens_total") - before < LONG


def _metric(address: str, name: str) -> float:
    with urllib.request.urlopen(address, timeout=30) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"vllm:{name}"))


def _until(reached: Callable[[], bool], patience: float = 60.0) -> None:
    end = time.monotonic() + patience
    while not reached():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def test_the_golden_check_passes(vllm_mini: Server, tmp_path: Path) -> None:
    checks = {check.subject: check for check in verify_serving(Settings(home=tmp_path), vllm_mini.url)}
    assert {check.state for check in checks.values()} == {"ok"}, checks
    assert "50 cases: 0 other labels" in checks["answers"].found
    worst = re.search(r"at most ([\d.]+)", checks["answers"].found)
    assert worst and float(worst[1]) <= TOLERANCE
