"""Published numbers beside our own."""

import json
from pathlib import Path

import pytest
from gsco.benchmarks.published import RESULTS, beside, published
from gsco.errors import ConfigurationError


def test_the_numbers_that_come_with_gsco_stand_beside_the_published_ones() -> None:
    text = beside()
    sets = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert sets == ["pneumoniamnist", "vqa_rad"]
    for known in published():
        assert known.method in text
    own = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| ours: ")]
    told = {arm.strip().removeprefix("ours: "): numbers.strip() for arm, numbers in reversed(own)}
    kept = {one["run"]["dataset"]: one for one in json.loads(RESULTS.read_bytes())["runs"]}
    for arm in kept["pneumoniamnist"]["scores"]["arms"]:
        assert told[arm["arm"]].startswith(f"{arm['metrics']['accuracy']['value']:.3f} [")


def test_only_sets_that_both_have(finished_run: Path) -> None:
    assert "No set has both" in beside(finished_run)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no run"):
        beside(tmp_path)
