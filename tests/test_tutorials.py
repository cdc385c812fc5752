"""Every command and every Python snippet of the tutorials runs, in order, as a reader would run it.

A block that cannot run in a test stands below ``<!-- not run: REASON -->``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import gsco
import pytest

ROOT = Path(gsco.__file__).parent
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<kind>python|console)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
SHOWN = {
    "docs/tutorials/build.md": ["Not measurable", "gsco diagnose IMAGE --task organs", "Similar known cases"],
    "docs/tutorials/folder.md": ["chest_xray", "04.jpg,pneumonia", "04.jpg pneumonia 0.9"],
    "docs/tutorials/generalist.md": ["vllm", "labels=('pneumonia',)"],
    "docs/tutorials/benchmark.md": ["balanced accuracy", "gsco"],
    "docs/tutorials/hospital.md": ["pneumonia", "bytes of PDF in report.dcm"],
    "docs/extending.md": ["specialist='brightness'"],
}
"""What each page's blocks print, among other things."""


class Block(NamedTuple):
    kind: str
    text: str
    reason: str
    """Why it is not run; empty where it is."""


def blocks(page: str) -> Iterator[Block]:
    for found in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
        yield Block(found["kind"], found["text"], found["reason"] or "")


def command_of(block: Block) -> list[str]:
    if block.kind == "python":
        return [sys.executable, "-c", block.text]
    lines = re.findall(r"^\$ (.*)$", block.text, re.M)
    return ["bash", "-euo", "pipefail", "-c", "\n".join(lines)]


def test_every_tutorial_is_run():
    assert {f"docs/tutorials/{path.name}" for path in (ROOT / "docs" / "tutorials").iterdir()} <= SHOWN.keys()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", SHOWN)
def test_a_page_runs_as_shown(page: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GSCO_")}
    environment["GSCO_HOME"] = str(tmp_path_factory.getbasetemp() / "tutorials-home")
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    shown = ""
    for block in blocks(page):
        if block.reason:
            continue
        run = subprocess.run(
            command_of(block),
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        assert run.returncode == 0, f"{block.text}\n{run.stdout}\n{run.stderr}"
        shown += run.stdout
    for words in SHOWN[page]:
        assert words in shown
