"""``gsco build --thorough`` on a tiny folder: networks are trained beside the heads, and measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gsco.agent.builds import current_build
from gsco.evals.build import panel
from gsco.evals.build.pipeline import BuildRequest, build, read_inputs
from gsco.settings import Settings

from .conftest import Folder


def test_trained_networks_join_the_panel(
    shapes: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fewer images and epochs than a real build takes.
    monkeypatch.setattr(panel, "LEAST_FINE_TUNED", 40)
    monkeypatch.setattr(panel, "LEAST_SCRATCH", 40)
    monkeypatch.setattr(panel, "_epochs", lambda images, least, most: 1)
    settings = Settings(home=tmp_path, torch_threads=1)
    request = BuildRequest("shapes", shapes(disc=80, bar=80), speed="thorough")
    lines: list[str] = []
    inputs = read_inputs(request, settings, lines.append)
    assert [one.name for one in inputs.panel] == ["probe", "probe96", "tuned", "regnet"]
    assert [one.mirror for one in inputs.panel] == [False, True, False, False]
    assert not inputs.cross_fitted
    record = build(inputs, settings, lines.append, quiet=True)
    assert set(record.specialists) == {"probe", "probe96", "tuned", "regnet"}
    assert {f"specialist:{name}" for name in record.specialists} <= {one.arm for one in record.arms}
    assert record.fitted
    # A network that was trained on the known cases places them by their labels: it does not search.
    assert record.retriever in ("probe", "probe96")
    found = current_build(tmp_path, "shapes")
    assert found is not None
    fit = json.loads((found.specialists / "shapes" / "collaboration.json").read_text())
    assert set(fit["parts"]["specialists"]) == set(record.specialists)
