from __future__ import annotations

from pathlib import Path

import pytest
from gsco.case import Task, TaskKind
from gsco.errors import ConfigurationError
from gsco.evals.cases import labelled_examples
from gsco.models.dataset import Dataset, Item, read_dataset

from .scripted_run import SHADE, write_dataset

SEVERAL = Task(
    name="m", modality="fundus", kind=TaskKind.MULTILABEL, options=("Normal", "AMD"), negative="Normal"
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(write_dataset(tmp_path_factory.mktemp("set") / "squares", test=20))


def labels(task: Task, *given: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The labels of images that are labelled so, as the task spells them."""
    items = tuple(Item(Path(f"/s/{n}.png"), one, "g", "test") for n, one in enumerate(given))
    found = labelled_examples(Dataset(Path("/s"), items, (), ""), "test", task)
    return [one.labels for one in found]


def test_an_image_that_is_listed_twice(dataset: Dataset) -> None:
    twice = Dataset(dataset.folder, tuple(dataset.split("test")[:1] * 2), dataset.labels, dataset.sha256)
    with pytest.raises(ConfigurationError, match="lists an image twice"):
        labelled_examples(twice, "test", SHADE)


def test_a_larger_sample_holds_the_smaller_one(dataset: Dataset) -> None:
    paths = [
        {one.id for one in labelled_examples(dataset, "test", SHADE, limit=limit)}
        for limit in (5, 12, 40, None)
    ]
    assert [len(some) for some in paths] == [5, 12, 40, 40]
    assert paths[0] < paths[1] < paths[2] == paths[3]


def test_a_sample_is_drawn_by_the_seed_and_not_from_the_front(dataset: Dataset) -> None:
    first, again = (labelled_examples(dataset, "test", SHADE, limit=10, seed=1) for _ in range(2))
    assert first == again != labelled_examples(dataset, "test", SHADE, limit=10, seed=2)
    assert {label for one in first for label in one.labels} == {"dark", "bright"}


def test_an_empty_split(dataset: Dataset) -> None:
    only = Dataset(dataset.folder, tuple(dataset.split("train")), dataset.labels, dataset.sha256)
    with pytest.raises(ConfigurationError, match="no test images"):
        labelled_examples(only, "test", SHADE)


def test_labels_are_spelt_as_the_options() -> None:
    task = Task(name="t", modality="m", options=("no tumor", "glioma"), aliases={"no tumor": ("healthy",)})
    assert labels(task, ("No Tumor",), ("HEALTHY",), ("glioma",)) == [
        ("no tumor",),
        ("no tumor",),
        ("glioma",),
    ]


def test_a_multilabel_case_may_have_several_labels_or_none() -> None:
    assert labels(SEVERAL, ("amd", "normal"), ()) == [("AMD", "Normal"), ()]


def test_a_diagnosis_has_exactly_one() -> None:
    task = Task(name="t", modality="m", options=("a", "b"))
    with pytest.raises(ConfigurationError, match="asks for one label"):
        labels(task, ("a", "b"))


def test_an_open_task_has_no_labels() -> None:
    with pytest.raises(ConfigurationError, match="no options"):
        labels(Task(name="r", modality="m", kind=TaskKind.REPORT), ())
