import pytest
from gsco.case import (
    DISCLAIMER,
    Case,
    Conflict,
    Diagnosis,
    Evidence,
    GateReport,
    ImageRef,
    Opinion,
    SimilarCase,
    Task,
    TaskKind,
)
from pydantic import ValidationError

REF = ImageRef(sha256="0123456789ab" + "c" * 52, width=4, height=3)


def task(**fields) -> Task:
    return Task.model_validate({"name": "t", "modality": "MRI", "options": ("a", "b"), **fields})


def test_an_image_id_is_short_and_names_the_hash():
    assert REF.id == "img-0123456789ab"
    assert REF.mime == "image/png"


@pytest.mark.parametrize(
    "fields",
    [
        {"sha256": "x" * 64},
        {"sha256": "A" * 64},
        {"sha256": "0" * 63},
        {"width": 0},
        {"height": -1},
        {"path": "/x"},
    ],
)
def test_a_reference_is_checked(fields):
    with pytest.raises(ValidationError):
        ImageRef.model_validate({**REF.model_dump(), **fields})


def test_records_do_not_change():
    with pytest.raises(ValidationError):
        REF.width = 5  # pyright: ignore[reportAttributeAccessIssue]


def test_a_case_needs_an_image():
    assert Case(id="1", images=(REF,)).question is None
    with pytest.raises(ValidationError, match="at least one image"):
        Case(id="1", images=())


@pytest.mark.parametrize("kind", TaskKind)
def test_options_belong_to_closed_tasks(kind):
    assert kind.closed == (kind in (TaskKind.DIAGNOSIS, TaskKind.MULTILABEL))
    if kind.closed:
        assert task(kind=kind).options == ("a", "b")
        with pytest.raises(ValidationError, match="at least two options"):
            task(kind=kind, options=("a",))
    else:
        assert task(kind=kind, options=()).options == ()
        with pytest.raises(ValidationError, match="takes no options"):
            task(kind=kind)


@pytest.mark.parametrize(
    "fields",
    [
        {"options": ("a", "A")},
        {"options": ("a", "b,c")},
        {"options": ("a", "b\nc")},
        {"options": ("a", " ")},
        {"aliases": {"c": ("d",)}},
        {"negative": "c"},
        {"name": "T"},
        {"name": "a b"},
        {"name": "a/b"},
        {"abstain_below": 1.1},
        {"colour": "red"},
    ],
)
def test_a_task_is_checked(fields):
    with pytest.raises(ValidationError):
        task(**fields)


def test_probabilities_and_similarities_are_checked():
    with pytest.raises(ValidationError):
        Opinion(specialist="s", architecture="x", probabilities={"a": 1.2})
    with pytest.raises(ValidationError):
        SimilarCase(id="1", sha256="0", task="t", labels=("a",), similarity=1.5, encoder="e")
    # Rounding of a float32 product may leave the unit interval by a little.
    assert (
        SimilarCase(id="1", sha256="0", task="t", labels=("a",), similarity=1.0005, encoder="e").similarity
        > 1
    )


def test_a_conflict_is_between_voices_not_between_similar_cases():
    assert not Conflict().any
    assert not Conflict(similar_share=0.0, panel_share=1.0).any
    assert Conflict(specialists_disagree=True).any
    assert Conflict(generalist_against_panel=True).any


def test_a_diagnosis_survives_json():
    diagnosis = Diagnosis(
        case_id="1",
        task="t",
        kind=TaskKind.DIAGNOSIS,
        label="a",
        labels=("a",),
        probabilities={"a": 0.75, "b": 0.25},
        confidence=0.75,
        evidence=Evidence(
            gate=GateReport(task="t"),
            opinions=(
                Opinion(specialist="s", architecture="x", labels=("a",), probabilities={"a": 0.9, "b": 0.1}),
            ),
            similar_cases=(
                SimilarCase(id="1", sha256="0", task="t", labels=("a",), similarity=0.9, encoder="e"),
            ),
        ),
        timings={"gate": 0.1},
    )
    assert Diagnosis.model_validate_json(diagnosis.model_dump_json()) == diagnosis
    assert diagnosis.disclaimer == DISCLAIMER
