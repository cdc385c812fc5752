"""Every script and the notebook of ``examples/`` runs as a user would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gsco
import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(gsco.__file__).parent / "examples"
SHOWN = {
    "own_specialist_sklearn": ["decision: pneumonia", "pca-logistic: pneumonia, reliability 0.9"],
    "own_specialist_torch": ["decision: pneumonia", "small-cnn: pneumonia"],
    "own_specialist_onnx": ["decision: pneumonia", "onnx: pneumonia"],
    "own_specialist_http": [
        "service: pneumonia",
        "decision without the service: normal",
        "missing specialist:service: specialist 'service' failed on an image",
    ],
    "own_generalist": ["EvidenceReader EvidenceReader says 'pneumonia'", "decision: pneumonia"],
    "own_case_store": ["400 cases copied", "decision: pneumonia", "a case of pneumonia, similarity 0.7"],
    "subgraphs": ["the image suggests pneumonia (confidence", "malignant"],
}
"""What each script prints, among other lines."""


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A user's environment without settings; what is unpacked at first use is shared by the scripts."""
    for name in [name for name in os.environ if name.startswith("GSCO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GSCO_HOME", str(tmp_path_factory.getbasetemp() / "examples-home"))
    return dict(os.environ)


def test_every_script_is_run():
    helpers = {"known_images"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == SHOWN.keys() | helpers


@pytest.mark.parametrize("name", SHOWN)
def test_a_script_runs(name: str, environment: dict[str, str], tmp_path: Path):
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stderr
    for line in SHOWN[name]:
        assert line in run.stdout


def test_the_notebook_runs(environment: dict[str, str], tmp_path: Path):
    notebook = nbformat.read(EXAMPLES / "first_steps.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "the notebook is kept without outputs"
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in outputs)
    assert "pneumonia" in text and "similarity" in text
    assert any("text/html" in output.get("data", {}) for output in outputs), "the diagnosis is shown"
