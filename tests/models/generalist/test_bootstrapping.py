"""Texts guided by labels: only what agrees with its label may be learnt from, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gsco.case import Task
from gsco.errors import ConfigurationError, GeneralistError
from gsco.images import ImageStore
from gsco.models.dataset import Dataset, read_dataset
from gsco.models.generalist.bootstrapping import bootstrap, guided, refusal
from gsco.models.generalist.conversations import read_collections, read_conversations
from PIL import Image

CHEST = Task(
    name="chest",
    modality="chest X-ray",
    options=("normal", "pneumonia"),
    aliases={"pneumonia": ("lung infection",)},
)
BRAIN = Task(name="brain", modality="MRI", options=("no tumor", "tumor", "pituitary tumor"))


@pytest.mark.parametrize(
    ("task", "labels", "text", "reason"),
    [
        (CHEST, ("pneumonia",), "Patchy opacities; this is pneumonia.", ""),
        (CHEST, ("pneumonia",), "Signs of a lung infection on the left.", ""),
        (CHEST, ("pneumonia",), "No effusion. Pneumonia of the right lung.", ""),
        (CHEST, ("pneumonia",), "The lungs are clear.", "does not name pneumonia"),
        (CHEST, ("pneumonia",), "There is no sign of pneumonia.", "denies pneumonia"),
        (CHEST, ("pneumonia",), "Pneumonia, otherwise a normal chest.", "names normal"),
        (CHEST, ("normal",), "A normal chest without pneumonia.", ""),
        (CHEST, ("normal",), "A normal chest, but pneumonia cannot be seen less.", "names pneumonia"),
        (CHEST, ("normal",), "An abnormal chest.", "does not name normal"),
        (BRAIN, ("no tumor",), "There is no tumor.", ""),
        (BRAIN, ("tumor",), "There is no tumor.", "does not name tumor"),
        (BRAIN, ("tumor",), "A tumor of the left lobe.", ""),
        (BRAIN, ("tumor",), "A pituitary tumor, a large tumor.", "names pituitary tumor"),
        (BRAIN, ("pituitary tumor",), "A pituitary tumor.", ""),
        (BRAIN, ("no tumor",), "No tumor; not a pituitary tumor.", ""),
    ],
)
def test_only_what_agrees_with_the_label_is_kept(
    task: Task, labels: tuple[str, ...], text: str, reason: str
) -> None:
    assert refusal(text, labels, task) == reason


class Author:
    """Writes of each image what it is told to, by what the guiding prompt says."""

    name, version, batch_size = "author", "1", 2

    def __init__(self, *, dies_after: int = 99) -> None:
        self.asked: list[str] = []
        self._left = dies_after

    def generate(
        self, requests: Sequence[Sequence[Any]], *, max_new_tokens: int = 256
    ) -> list[str | GeneralistError]:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        texts = [request[-1].content[-1]["text"] for request in requests]
        self.asked += texts
        return ["It is normal." if "normal" in text else "Nothing to see." for text in texts]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rows = ["path,label,group,split"]
    (tmp_path / "data").mkdir()
    for number in range(6):
        pixels = np.full((8, 8, 3), 40 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{number}.png")
        rows.append(f"{number}.png,{('normal', 'pneumonia')[number % 2]},g{number},train")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(rows))
    return read_dataset(tmp_path / "data")


def run(author: Author, dataset: Dataset, home: Path, **given: Any) -> Any:
    images = ImageStore(home / "images")
    return bootstrap(author, dataset, CHEST, images, home / "out.jsonl", **given)  # type: ignore[arg-type]


def test_conversations_ask_without_the_label(dataset: Dataset, tmp_path: Path) -> None:
    found = run(Author(), dataset, tmp_path)
    assert (found.kept, dict(found.refused)) == (3, {"does not name pneumonia": 3})
    conversations = read_conversations(tmp_path / "out.jsonl")
    assert {one.turns[0].text for one in conversations} == {"Describe this chest X-ray image."}
    (collection,) = read_collections(tmp_path / "out.json")
    assert all((collection.root / str(one.image)).is_file() for one in conversations)


def test_where_a_text_came_from_is_kept(dataset: Dataset, tmp_path: Path) -> None:
    author = Author()
    run(author, dataset, tmp_path, kind="report")
    lines = [json.loads(line) for line in (tmp_path / "out.provenance.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == [f"{number}.png" for number in range(6)]
    assert {line["generalist"] for line in lines} == {"author 1"}
    assert len({line["prompt"] for line in lines}) == 2
    assert author.asked[0] == guided(CHEST, ["normal"], "report")


def test_a_stopped_run_asks_for_no_text_twice(dataset: Dataset, tmp_path: Path) -> None:
    first, second = Author(dies_after=2), Author()
    with pytest.raises(KeyboardInterrupt):
        run(first, dataset, tmp_path)
    assert not (tmp_path / "out.jsonl").exists()
    assert run(second, dataset, tmp_path).kept == 3
    assert (len(first.asked), len(second.asked)) == (4, 2)


def test_another_generalist_s_file_is_not_mixed_in(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Author(dies_after=1), dataset, tmp_path)
    other = Author()
    other.version = "2"
    with pytest.raises(ConfigurationError, match="author 1"):
        run(other, dataset, tmp_path)
    assert not other.asked
    with pytest.raises(ConfigurationError, match="description"):
        run(Author(), dataset, tmp_path, kind="report")


def test_foreign_labels_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="normal"):
        bootstrap(Author(), dataset, BRAIN, ImageStore(tmp_path / "i"), tmp_path / "o.jsonl")  # type: ignore[arg-type]
