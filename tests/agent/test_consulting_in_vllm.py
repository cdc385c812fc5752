"""Whole consultations through a real vLLM: the bundled generalist calls the tools itself."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from gsco.agent.api import GSCo
from gsco.agent.assembly import parts_of
from gsco.case import Case
from gsco.evals.abilities.ability_arms import CALL, DECISION, AbilityQuestion, ability_arms
from gsco.evals.cases import labelled_examples
from gsco.models.dataset import read_dataset
from gsco.models.mini.samples import samples as bundled_samples
from gsco.models.serving.process import Server
from gsco.settings import Settings

from .. import vllm
from ..models.generalist.families import make_family

TASKS = ("chest_xray", "brain_mri", "busi", "lung_histology")
CALLED = 0.9
"""Share of images that it examines for the right task by a call of its own: 98 of 100 test images."""
BEHIND = 0.02
"""So much the share of right decisions may be below that of the fixed protocol, which is told the task."""

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def gsco(vllm_mini: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GSCo]:
    settings = Settings(home=tmp_path_factory.mktemp("home"), generalist_url=vllm_mini.url)
    with GSCo(**parts_of(settings)) as gsco:
        assert gsco.consulting().level == "native"
        yield gsco


def test_bundled_samples(gsco: GSCo) -> None:
    samples = bundled_samples()
    assert len(samples) == 36
    _check(
        gsco, [_question(gsco, sample.task, sample.path, sample.group, (sample.label,)) for sample in samples]
    )


@pytest.mark.datasets
def test_a_hundred_test_images(gsco: GSCo) -> None:
    folder = Path(os.environ.get("GSCO_TEST_DATASETS", ""))
    if not (folder / TASKS[0] / "labels.csv").is_file():
        pytest.skip("needs the data sets; GSCO_TEST_DATASETS names their folder")
    questions = [
        _question(gsco, task, example.images[0], example.group, example.labels)
        for task in TASKS
        for example in labelled_examples(
            read_dataset(folder / task), "test", gsco.tasks.get(task), limit=25, seed=0
        )
    ]
    assert len(questions) == 100
    _check(gsco, questions)


def _question(
    gsco: GSCo, task: str, path: Path, group: str | None, truth: tuple[str, ...]
) -> AbilityQuestion:
    ref = gsco.images.put(path)
    case = Case(id=ref.id, images=(ref,), group=group)
    return AbilityQuestion(gsco, gsco.tasks.get(task), case, truth)


def _check(gsco: GSCo, questions: list[AbilityQuestion]) -> None:
    arms = [arm for arm in ability_arms(gsco, ()) if arm.name in (CALL, DECISION)]
    right: Counter[str] = Counter()

    async def ask(question: AbilityQuestion) -> None:
        for arm in arms:
            right[arm.name] += (await arm.show(question)).hit

    for question in questions:
        asyncio.run(ask(question))
        told = gsco.diagnose(question.case, task=question.task)
        right["fixed protocol"] += told.labels == question.truth
    print(right)
    assert right[CALL] >= CALLED * len(questions)
    assert right[DECISION] >= right["fixed protocol"] - BEHIND * len(questions)


@pytest.fixture(scope="module")
def vllm_qwen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """vLLM with a random checkpoint in Qwen-VL's layout, told how that layout calls tools."""
    folder = make_family("qwen2.5-vl", tmp_path_factory.mktemp("vllm-qwen") / "qwen")
    yield from vllm.served(
        str(folder),
        folder,
        "--dtype",
        "float32",
        "--max-model-len",
        "4096",
        "--limit-mm-per-prompt",
        '{"image":4}',
        "--enable-auto-tool-choice",
        "--tool-call-parser",
        "hermes",
    )


@pytest.mark.parametrize("level", ["native", "constrained", "none"])
@pytest.mark.parametrize("profile", ["calibrated", "exemplars"])
def test_a_random_vision_model_does_no_harm(
    vllm_qwen: Server, tmp_path: Path, level: str, profile: str
) -> None:
    """Whatever it says and calls, or not, the image is diagnosed by the evidence and its words stand."""
    settings = Settings(home=tmp_path, generalist_url=vllm_qwen.url, tool_calls=level, profile=profile)
    sample = bundled_samples("busi")[2]
    with GSCo(**parts_of(settings)) as gsco:
        assert gsco.consulting().level == level
        consultation = gsco.consult("a")
        first = consultation.send("What is the diagnosis?", [sample.path])
        assert first.diagnosis is not None and first.diagnosis.label == sample.label
        later = consultation.send("How sure are you?")
        said = [one.text.strip() for one in consultation.history() if one.role == "assistant" and one.text]
        assert not later.text or said[-1] == later.text.strip()
        asked = gsco.diagnose(sample.path, task="busi", decision="generalist")
        assert asked.generalist_answer is not None
        assert sum(asked.generalist_answer.probabilities.values()) == pytest.approx(1.0, abs=1e-6)
