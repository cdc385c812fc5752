"""Whole consultations through a real vLLM: the bundled generalist calls the tools itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from gsco._support.jsonl import read_log
from gsco.agent.api import GSCo
from gsco.agent.assembly import parts_of
from gsco.case import Case
from gsco.evals.abilities.ability_records import LOG, AbilityImage, AbilityRecord
from gsco.evals.abilities.conversations import AT_ONCE, CALL, DECISION, PROTOCOL, consult
from gsco.evals.abilities.suite import images_of
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


def test_bundled_samples(gsco: GSCo, tmp_path: Path) -> None:
    images = []
    for sample in bundled_samples():
        ref = gsco.images.put(sample.path)
        case = Case(id=ref.id, images=(ref,), group=sample.group)
        images.append(AbilityImage(sample.file, gsco.tasks.get(sample.task), case, (sample.label,)))
    assert len(images) == 36
    _check(gsco, images, tmp_path)


@pytest.mark.datasets
def test_a_hundred_test_images(gsco: GSCo, tmp_path: Path) -> None:
    folder = Path(os.environ.get("GSCO_TEST_DATASETS", ""))
    if not (folder / TASKS[0] / "labels.csv").is_file():
        pytest.skip("needs the data sets; GSCO_TEST_DATASETS names their folder")
    images = [
        image
        for task in TASKS
        for image in images_of(gsco, gsco.tasks.get(task), folder / task, "test", 25, 0)
    ]
    assert len(images) == 100
    _check(gsco, images, tmp_path)


def _check(gsco: GSCo, images: list[AbilityImage], out: Path) -> None:
    consult(gsco, gsco.generalist(), images, out, quiet=True)
    shown = list(read_log(out / LOG, AbilityRecord))
    assert len(shown) == 4 * len(images) and not any(one.error for one in shown)
    share = {
        ability: sum(one.right for one in shown if one.ability == ability) / len(images)
        for ability in (AT_ONCE, CALL, DECISION, PROTOCOL)
    }
    print(share)
    assert share[CALL] >= CALLED
    assert share[DECISION] >= share[PROTOCOL] - BEHIND


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
