import pytest
from gsco.case import (
    Answer,
    Case,
    Evidence,
    GateReport,
    ImageRef,
    Missing,
    Opinion,
    SimilarCase,
    Task,
    TaskKind,
)
from gsco.graphs.nodes.review import conclude, confidence_of, conflict_of

CASE = Case(id="c", images=(ImageRef(sha256="0" * 64, width=8, height=8),))
LUNG = Task(name="lung", modality="chest X-ray", options=("normal", "pneumonia"), abstain_below=0.6)
EYE = Task(
    name="eye",
    kind=TaskKind.MULTILABEL,
    modality="fundus photograph",
    options=("Normal", "Glaucoma", "Cataract"),
    negative="Normal",
)
REPORT = Task(name="words", kind=TaskKind.REPORT, modality="chest X-ray")


def opinion(name: str, *labels: str, **probabilities: float) -> Opinion:
    return Opinion(specialist=name, architecture="x", labels=labels, probabilities=probabilities)


def similar(*labels: str) -> SimilarCase:
    return SimilarCase(id="i", sha256="1" * 64, task="lung", labels=labels, similarity=0.9, encoder="e")


def evidence(
    *opinions: Opinion, cases: tuple[SimilarCase, ...] = (), familiar: bool | None = True, **more
) -> Evidence:
    gate = GateReport(task="lung", familiar=familiar, notes=more.pop("notes", ()))
    return Evidence(gate=gate, opinions=opinions, similar_cases=cases, **more)


def answer(label: str, probability: float) -> Answer:
    other = next(option for option in LUNG.options if option != label)
    return Answer(labels=(label,), probabilities={label: probability, other: 1 - probability})


def test_a_confident_undisputed_diagnosis_stands():
    said = evidence(
        opinion("a", "normal"), opinion("b", "normal"), cases=(similar("normal"), similar("pneumonia"))
    )
    result = conclude(CASE, LUNG, said, answer("normal", 0.9))
    assert (result.label, result.labels, result.confidence) == ("normal", ("normal",), 0.9)
    assert not result.abstained and result.reasons == ()
    assert not result.conflict.any
    assert (result.conflict.panel_share, result.conflict.similar_share) == (1.0, 0.5)
    assert result.text is None and result.evidence == said


def test_low_confidence_abstains_and_says_so():
    result = conclude(CASE, LUNG, evidence(), answer("normal", 0.59))
    assert result.abstained
    assert result.reasons == ("The confidence 0.59 is below this task's limit of 0.60.",)
    assert result.label == "normal", "the suggestion stays"


def test_an_unfamiliar_image_abstains_however_sure_the_generalist_is():
    said = evidence(familiar=False, notes=("The image is far from everything known for lung.",))
    result = conclude(CASE, LUNG, said, answer("normal", 0.99))
    assert result.abstained
    assert "unlike the known cases" in result.reasons[0]
    assert result.reasons[1:] == ("The image is far from everything known for lung.",)


def test_unknown_familiarity_does_not_abstain():
    assert not conclude(CASE, LUNG, evidence(familiar=None), answer("normal", 0.9)).abstained


@pytest.mark.parametrize(
    ("voices", "abstains"),
    [
        ((opinion("a", "pneumonia"), opinion("b", "pneumonia")), True),
        ((opinion("a", "pneumonia"),), False),
        ((opinion("a", "pneumonia"), opinion("b", "pneumonia"), opinion("c", "normal")), False),
    ],
)
def test_only_a_panel_of_one_mind_outweighs_the_generalist(voices, abstains):
    result = conclude(CASE, LUNG, evidence(*voices), answer("normal", 0.95))
    assert result.conflict.generalist_against_panel
    assert result.abstained is abstains


def test_in_a_tie_the_generalist_is_not_against_the_panel():
    conflict = conflict_of(LUNG, ("normal",), evidence(opinion("a", "pneumonia"), opinion("b", "normal")))
    assert not conflict.generalist_against_panel
    assert conflict.specialists_disagree and conflict.panel_share == 0.5


def test_without_probabilities_the_confidence_is_unknown_and_said_to_be():
    result = conclude(CASE, LUNG, evidence(), Answer(labels=("normal",), parse="alias", text="clear"))
    assert result.confidence is None and not result.abstained
    assert any("confidence is unknown" in reason for reason in result.reasons)
    assert result.parse == "alias"


def test_what_is_missing_stands_among_the_reasons():
    said = evidence(missing=(Missing(source="specialist:a", reason="no weights"),))
    result = conclude(CASE, LUNG, said, answer("normal", 0.9))
    assert result.reasons == ("Decided without specialist a: no weights",)
    assert not result.abstained


def test_multilabel_confidence_is_that_of_the_least_certain_option():
    said = Answer(labels=("Glaucoma",), probabilities={"Normal": 0.1, "Glaucoma": 0.8, "Cataract": 0.3})
    assert confidence_of(EYE, said) == pytest.approx(0.7)


def test_multilabel_majority_is_taken_option_by_option():
    voices = (opinion("a", "Glaucoma"), opinion("b", "Glaucoma", "Cataract"), opinion("c", "Glaucoma"))
    agreeing = conflict_of(EYE, ("Glaucoma",), evidence(*voices))
    assert not agreeing.generalist_against_panel and agreeing.panel_share == pytest.approx(2 / 3)
    assert conflict_of(EYE, ("Glaucoma", "Cataract"), evidence(*voices)).generalist_against_panel
    assert conflict_of(EYE, ("Normal",), evidence(*voices)).generalist_against_panel


def test_multilabel_labels_are_joined():
    said = Answer(
        labels=("Glaucoma", "Cataract"), probabilities={"Normal": 0.0, "Glaucoma": 0.9, "Cataract": 0.9}
    )
    assert conclude(CASE, EYE, evidence(), said).label == "Glaucoma, Cataract"


def test_a_specialist_that_says_none_of_the_options_votes_for_none():
    voices = (opinion("a", Normal=0.1, Glaucoma=0.2, Cataract=0.2),)
    conflict = conflict_of(EYE, (), evidence(*voices))
    assert conflict.panel_share == 1.0 and not conflict.generalist_against_panel


def test_a_report_has_a_text_and_neither_label_nor_confidence():
    draft = Opinion(specialist="r", architecture="x", text="No effusion.")
    result = conclude(CASE, REPORT, evidence(draft), Answer(text="Clear lungs.", parse="text"))
    assert (result.text, result.label, result.confidence) == ("Clear lungs.", None, None)
    assert result.conflict.panel_share is None and not result.abstained
