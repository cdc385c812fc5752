"""Real vLLM servers for the tests that are marked ``vllm``: each is started once and shared by all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from gsco.errors import ConfigurationError
from gsco.models.serving.interpreter import find_python
from gsco.models.serving.launch_plan import planned, ready
from gsco.models.serving.process import Server, free_port

START = 540.0
"""Seconds that a server may take to be ready on a busy machine."""


def interpreter() -> str:
    """The interpreter that has vLLM; the test is skipped where there is none."""
    try:
        return find_python(os.environ.get("GSCO_VLLM_PYTHON") or None)
    except ConfigurationError as error:
        pytest.skip(f"no vLLM: {error}")


def served(model: str, folder: Path, *flags: str) -> Iterator[Server]:
    """A server for a model, as ``gsco serve generalist`` starts it."""
    python = interpreter()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    launch = replace(ready(planned(model, port=free_port(), extra=flags), folder), cpu=True)
    with Server(launch, python, folder / "server.log", ready=START) as server:
        yield server
    assert not server._left(), "processes of vLLM outlive it"


@pytest.fixture(scope="session")
def vllm_mini(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """vLLM with the bundled generalist."""
    yield from served("mini", tmp_path_factory.mktemp("vllm-mini"))


@pytest.fixture(scope="session")
def vllm_meddr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """vLLM with a random checkpoint in MedDr's layout, served by MedDr's profile."""
    from .models.serving.meddr import make_checkpoint

    folder = tmp_path_factory.mktemp("vllm-meddr")
    checkpoint = make_checkpoint(folder / "meddr-tiny")
    yield from served(str(checkpoint), folder, "--dtype", "float32", "--max-model-len", "1024")
