import pytest
from gsco.case import Task
from gsco.errors import TaskMismatch
from gsco.graphs.nodes.gate import chosen, compare, resembles
from gsco.tools.retrieval import Surroundings

CHEST = Task(name="chest", modality="chest X-ray", options=("a", "b"))
MODALITIES = {"chest": "chest X-ray", "kids": "Chest X-Ray", "brain": "brain MRI"}


def test_a_near_image_is_familiar():
    around = Surroundings({"chest": 0.9, "brain": 0.1}, {"chest": 0.8, "brain": 0.6})
    report = compare(CHEST, around, 0.7, MODALITIES)
    assert (report.familiar, report.task_probability, report.nearest_similarity) == (True, 0.9, 0.8)
    assert report.similarity_floor == 0.7 and report.notes == () and not report.task_chosen
    assert resembles(CHEST, around, 0.7, MODALITIES) is None


def test_far_from_its_own_and_nearer_to_another_modality_is_a_mismatch():
    around = Surroundings({"brain": 1.0}, {"chest": 0.4, "brain": 0.9})
    assert resembles(CHEST, around, 0.7, MODALITIES) == "brain"
    report = compare(CHEST, around, 0.7, MODALITIES)
    assert report.familiar is False and report.task_probability == 0.0
    assert "nearer to known cases of brain" in report.notes[0]


def test_nearer_to_another_task_but_not_far_from_its_own_is_none():
    around = Surroundings({"brain": 1.0}, {"chest": 0.75, "brain": 0.9})
    assert resembles(CHEST, around, 0.7, MODALITIES) is None


def test_another_task_of_the_same_modality_is_no_mismatch():
    around = Surroundings({"kids": 1.0}, {"chest": 0.4, "kids": 0.9})
    assert resembles(CHEST, around, 0.7, MODALITIES) is None
    assert compare(CHEST, around, 0.7, MODALITIES).familiar is False


def test_far_from_everything_is_unfamiliar_and_said():
    report = compare(CHEST, Surroundings({"chest": 1.0}, {"chest": 0.3, "brain": 0.2}), 0.7, MODALITIES)
    assert report.familiar is False
    assert "far from everything known" in report.notes[0]


@pytest.mark.parametrize(
    ("around", "floor", "words"),
    [
        (Surroundings({}, {}), None, "no known cases"),
        (Surroundings({"brain": 1.0}, {"brain": 0.9}), None, "no known cases"),
        (Surroundings({"chest": 1.0}, {"chest": 0.2}), None, "too few"),
    ],
)
def test_what_cannot_be_checked_is_said(around, floor, words):
    report = compare(CHEST, around, floor, MODALITIES)
    assert report.familiar is None and words in report.notes[0]
    assert resembles(CHEST, around, floor, MODALITIES) is None


def test_a_task_is_chosen_where_the_known_cases_agree():
    report = chosen("brain", Surroundings({"brain": 0.8, "chest": 0.2}, {"brain": 0.9, "chest": 0.5}), 0.7)
    assert (report.task, report.task_chosen, report.task_probability, report.familiar) == (
        "brain",
        True,
        0.8,
        True,
    )
    assert "brain was chosen" in report.notes[0]


@pytest.mark.parametrize(
    ("best", "around", "floor", "words"),
    [
        (
            "brain",
            Surroundings({"brain": 0.6, "chest": 0.4}, {"brain": 0.9, "chest": 0.88}),
            0.7,
            "fits several",
        ),
        ("brain", Surroundings({"brain": 1.0}, {"brain": 0.5}), 0.7, "far from everything"),
        ("brain", Surroundings({"brain": 1.0}, {"brain": 0.9}), None, "far from everything"),
    ],
)
def test_no_task_is_guessed(best, around, floor, words):
    with pytest.raises(TaskMismatch, match=words) as caught:
        chosen(best, around, floor)
    assert "Name the task" in str(caught.value)
    assert all(name in str(caught.value) for name in around.shares)


def test_an_empty_store_chooses_nothing():
    with pytest.raises(TaskMismatch, match="no known cases"):
        chosen(None, Surroundings({}, {}), None)
