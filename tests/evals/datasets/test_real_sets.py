"""The open sets themselves, where they lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from gsco.evals.datasets import entries, open_dataset
from gsco.images import read_image

pytestmark = pytest.mark.datasets

NAMES = (
    "chest_xray",
    "busi",
    "brain_mri",
    "lung_histology",
    "ham10000",
    "fundus_multilabel",
    "pneumoniamnist",
    "modality",
    "vqa_rad",
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = os.environ.get("GSCO_TEST_DATASETS")
    if not place:
        pytest.skip("set GSCO_TEST_DATASETS to the folder of the full data sets")
    monkeypatch.setenv("GSCO_HOME", str(tmp_path))
    return Path(place)


@pytest.mark.parametrize("name", NAMES)
def test_a_set_is_whole_and_no_group_crosses_its_splits(root: Path, name: str) -> None:
    opened = open_dataset(name, root=root, split="all")
    edition = next(one for one in entries()[name].editions if one.name == opened.edition)
    assert opened.counts["test"] == edition.counts["test"]
    splits: dict[str, set[str]] = {}
    for one in opened:
        splits.setdefault(one.group, set()).add(one.split)
    assert all(len(several) == 1 for several in splits.values())
    assert read_image(opened[0].images[0]).width >= 28
    if opened.task.kind.closed:
        assert set(opened.labels()) == set(opened.task.options)


def test_vqa_rad_has_the_published_kinds_of_questions(root: Path) -> None:
    opened = open_dataset("vqa_rad", root=root)
    assert sum(one.closed for one in opened) == 272 and len(opened) == 451
