"""One model, two runtimes: the bundled generalist answers alike in this process and behind a real vLLM."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from gsco.case import Answer, Case, Opinion, SimilarCase, TaskKind
from gsco.images import ImageStore
from gsco.models.generalist.functions import declared, functions
from gsco.models.generalist.in_process import InProcessGeneralist
from gsco.models.generalist.messages import message
from gsco.models.generalist.openai_compatible import OpenAICompatibleGeneralist
from gsco.models.generalist.prompts import PROFILES
from gsco.models.generalist.protocol import Choice
from gsco.models.mini import bundled
from gsco.models.mini.samples import FOLDER
from gsco.tasks import builtin_tasks

PYTHON = os.environ.get("GSCO_VLLM_PYTHON", "") or (shutil.which("python") if find_spec("vllm") else "")
START = 280.0
"""Seconds that a server may take to be ready."""
TASKS = ("chest_xray", "brain_mri", "busi", "lung_histology")

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PYTHON, reason="no vLLM found; GSCO_VLLM_PYTHON names an interpreter that has it"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    command = [
        PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(bundled("generalist")),
        "--served-model-name", "mini", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32",
        "--enforce-eager", "--max-model-len", "2048", "--limit-mm-per-prompt", '{"image":1}',
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
    ]  # fmt: skip
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    with log.open("wb") as file:
        server = subprocess.Popen(
            [part or "python" for part in command], stdout=file, stderr=file, env=environment,
            start_new_session=True,
        )  # fmt: skip
    try:
        _wait(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, 15)
        server.wait(60)


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text("utf-8")[-3000:]
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(1)
    raise AssertionError(f"vLLM was not ready after {START} s: {log.read_text('utf-8')[-3000:]}")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return ImageStore(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def local(images: ImageStore) -> InProcessGeneralist:
    return InProcessGeneralist.load(bundled("generalist"), images, dtype="float32")


@pytest.fixture(scope="module")
def served(url: str, images: ImageStore) -> OpenAICompatibleGeneralist:
    return OpenAICompatibleGeneralist(url, images, concurrency=4)


@pytest.fixture(scope="module")
def samples(images: ImageStore) -> list[tuple[str, Any]]:
    """Task and image of every bundled sample."""
    listed = json.loads((FOLDER / "samples.json").read_text(encoding="utf-8"))
    entries = listed["samples"] if isinstance(listed, dict) else listed
    return [(entry["task"], images.put(FOLDER / entry["file"])) for entry in entries]


def _choices(samples: Sequence[tuple[str, Any]]) -> list[Choice]:
    made = []
    for number, (name, ref) in enumerate(samples):
        task, case = builtin_tasks()[name], Case(id=str(number), images=(ref,))
        label = task.options[number % len(task.options)]
        said = Opinion(
            specialist="s", architecture="x", labels=(label,), probabilities={label: 0.7}, reliability=0.8
        )
        found = SimilarCase(id="i", sha256="0" * 64, task=name, labels=(label,), similarity=0.9, encoder="e")
        for profile in PROFILES.values():
            for evidence in (((), ()), ((said,), (found,))):
                messages = profile.closed_messages(task, case, *evidence)
                made.append(Choice(messages, task.options))
    return made


def test_distributions_over_options_are_equal(
    local: InProcessGeneralist, served: OpenAICompatibleGeneralist, samples: list[tuple[str, Any]]
) -> None:
    requests = _choices(samples)
    differences = []
    for one, other in zip(local.choose(requests), served.choose(requests), strict=True):
        assert isinstance(one, Answer) and isinstance(other, Answer), other
        assert one.probabilities and other.probabilities
        assert one.labels == other.labels
        differences += [
            abs(one.probabilities[label] - other.probabilities[label]) for label in one.probabilities
        ]
    assert len(requests) >= 50 and max(differences) < 0.005


def test_greedy_answers_are_equal(
    local: InProcessGeneralist, served: OpenAICompatibleGeneralist, samples: list[tuple[str, Any]]
) -> None:
    requests = []
    for number, (name, ref) in enumerate(samples):
        kind = (TaskKind.QUESTION, TaskKind.REPORT)[number % 2]
        task = builtin_tasks()[name].model_copy(update={"kind": kind, "options": (), "negative": None})
        case = Case(id=str(number), images=(ref,), question="Which imaging modality is this?")
        requests.append(PROFILES["calibrated"].open_messages(task, case))
    assert local.generate(requests, max_new_tokens=48) == served.generate(requests, max_new_tokens=48)


def test_tool_calls_are_equal(
    local: InProcessGeneralist, served: OpenAICompatibleGeneralist, samples: list[tuple[str, Any]]
) -> None:
    known = functions([builtin_tasks()[name] for name in TASKS])
    tools = [declared(function) for function in known.values()]
    for _, ref in samples[:: len(samples) // 6]:
        asked = [message("human", f"Image {ref.id}. What is the diagnosis?", [ref.id])]
        one, other = local.call_tools(asked, tools), served.call_tools(asked, tools)
        assert [(call["name"], call["args"]) for call in one.tool_calls] == [
            (call["name"], call["args"]) for call in other.tool_calls
        ]
        assert one.tool_calls and one.text == other.text
