"""Every face gives the decision that a run has measured, with the bundled models."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from gsco.agent.cli import app
from gsco.models.mini import bundled
from typer.testing import CliRunner

TASK = "busi"
FACES = ["python", "conversation", "page", "api"]


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run over three bundled samples."""
    monkeypatch.setenv("GSCO_HOME", str(tmp_path / "home"))
    (tmp_path / "set").mkdir()
    rows = [("path", "label", "group", "split")]
    for number, path in enumerate(sorted((bundled("samples") / TASK).glob("*.jpg"))[:3]):
        (tmp_path / "set" / path.name).write_bytes(path.read_bytes())
        rows.append((path.name, "benign", f"patient-{number}", "test"))
    with (tmp_path / "set" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    arguments = ["run", tmp_path / "set", "--task", TASK, "--out", tmp_path / "run", "--arms", "gsco"]
    done = CliRunner().invoke(app, ["eval", *map(str, arguments), "--leaks", "exclude"])
    assert done.exit_code == 0, done.stderr
    return tmp_path / "run"


def compared(run: Path) -> tuple[int, list[dict]]:
    done = CliRunner().invoke(app, ["eval", "faces", str(run), "--json"])
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()]


def test_every_face_decides_as_measured_and_a_difference_is_told(finished: Path) -> None:
    code, found = compared(finished)
    assert code == 0
    assert [(one["face"], one["cases"], one["same"]) for one in found] == [(face, 3, 3) for face in FACES]
    assert all(one["difference"] < 1e-5 for one in found)

    lines = (finished / "outcomes.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    first["probabilities"] = {name: 1 / len(first["probabilities"]) for name in first["probabilities"]}
    (finished / "outcomes.jsonl").write_text("\n".join([json.dumps(first), *lines[1:], ""]))
    code, found = compared(finished)
    assert code == 3
    assert [one["same"] for one in found] == [2] * len(FACES)
