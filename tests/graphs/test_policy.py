import pytest
from gsco.case import (
    Answer,
    Evidence,
    GateReport,
    Missing,
    Opinion,
    SimilarCase,
    Task,
    TaskKind,
)
from gsco.graphs.certificate import certify
from gsco.graphs.collaboration_fit import HeldOutScores
from gsco.graphs.fusion import FusedDecision, decide_by, plan_of
from gsco.graphs.policy import AnswerPolicy, conflict_of, contradictions, doubts_of, remarks, review_reasons

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


def decided(label: str, probability: float, said: Evidence, task: Task = LUNG) -> FusedDecision:
    """What the published protocol makes of a generalist's answer."""
    other = next(option for option in task.options if option != label)
    answer = Answer(labels=(label,), probabilities={label: probability, other: 1 - probability})
    return decide_by(plan_of(task, said, wanted="generalist"), task, said, answer)


def doubts(label: str, probability: float, said: Evidence, **policy) -> list[str]:
    return list(doubts_of(LUNG, said, decided(label, probability, said), AnswerPolicy(**policy)))


def test_a_confident_undisputed_diagnosis_stands():
    said = evidence(
        opinion("a", "normal"), opinion("b", "normal"), cases=(similar("normal"), similar("pneumonia"))
    )
    assert doubts("normal", 0.9, said) == []
    conflict = conflict_of(LUNG, ("normal",), ("normal",), said)
    assert not conflict.any and (conflict.panel_share, conflict.similar_share) == (1.0, 0.5)


def test_low_confidence_is_left_to_a_person_and_the_limit_is_said_to_be_uncertified():
    assert doubts("normal", 0.62, evidence()) == [
        "The confidence of 62% is below the limit of 62%, which is not certified."
    ]


def test_a_task_of_two_options_can_abstain():
    two = LUNG.model_copy(update={"abstain_below": 0.5})
    said = evidence()
    assert list(doubts_of(two, said, decided("normal", 0.55, said)))
    assert not list(doubts_of(two, said, decided("normal", 0.7, said)))


def test_an_unfamiliar_image_abstains_however_sure_the_decision_is():
    (reason,) = doubts("normal", 0.99, evidence(familiar=False))
    assert "unlike the known cases" in reason
    assert doubts("normal", 0.9, evidence(familiar=None)) == []


@pytest.mark.parametrize(
    ("voices", "abstains"),
    [
        ((opinion("a", "pneumonia"), opinion("b", "pneumonia")), True),
        ((opinion("a", "pneumonia", pneumonia=0.95, normal=0.05),), True),
        ((opinion("a", "pneumonia", pneumonia=0.6, normal=0.4),), False),
        ((opinion("a", "pneumonia"), opinion("b", "pneumonia"), opinion("c", "normal")), False),
    ],
)
def test_evidence_of_one_mind_is_not_contradicted_in_silence(voices, abstains):
    assert bool(doubts("normal", 0.95, evidence(*voices))) is abstains


def test_unanimous_similar_cases_count():
    said = evidence(cases=(similar("pneumonia"),) * 5)
    assert "all 5 similar cases" in next(contradictions(said, ("normal",)))
    assert not list(contradictions(evidence(cases=(similar("pneumonia"),) * 4), ("normal",)))
    assert not list(contradictions(said, ("pneumonia",)))


def test_a_suspended_task_answers_nothing_alone():
    assert doubts("normal", 0.99, evidence(), suspended="Drift.") == ["Drift."]


def test_a_certificate_takes_the_place_of_the_cards_limit():
    held_out = HeldOutScores(
        confidence=(0.97,) * 200 + (0.6,) * 100,
        right=(True,) * 200 + (True, False) * 50,
        eligible=(True,) * 300,
        truth=(("normal",),) * 300,
        said=(("normal",),) * 300,
    )
    certificate = certify(held_out, 0.05)
    assert certificate.limit is not None
    assert 0.6 < certificate.limit <= 0.97 and certificate.answered == 200
    (reason,) = doubts("normal", 0.6, evidence(), certificate=certificate)
    assert "at most 5% of the answers are wrong" in reason
    assert doubts("normal", 0.98, evidence(), certificate=certificate) == []
    few = certify(HeldOutScores(), 0.05)
    (reason,) = doubts("normal", 1.0, evidence(), certificate=few)
    assert "at least 45 held-out patients are needed, 0 are there" in reason


def test_review_follows_the_same_policy():
    from gsco.case import Conflict, Diagnosis

    said = evidence(opinion("a", "pneumonia", pneumonia=0.95, normal=0.05))
    diagnosis = Diagnosis(
        case_id="c",
        task="lung",
        kind=LUNG.kind,
        labels=("normal",),
        label="normal",
        confidence=0.95,
        abstained=True,
        reasons=("It contradicts.",),
        evidence=said,
        conflict=Conflict(),
    )
    assert list(review_reasons(diagnosis, {"low_confidence"})) == ["It contradicts."]
    assert "contradicts the specialist a" in next(review_reasons(diagnosis, {"conflict"}))
    assert not list(review_reasons(diagnosis, {"out_of_distribution"}))
    assert list(review_reasons(diagnosis, {"always"}))


def test_in_a_tie_the_generalist_is_not_against_the_panel():
    said = evidence(opinion("a", "pneumonia"), opinion("b", "normal"))
    conflict = conflict_of(LUNG, ("normal",), ("normal",), said)
    assert not conflict.generalist_against_panel
    assert conflict.specialists_disagree and conflict.panel_share == 0.5


def test_what_is_missing_stands_among_the_remarks():
    said = evidence(missing=(Missing(source="specialist:a", reason="no weights"),))
    assert list(remarks(said, True, 0.9)) == ["Decided without specialist a: no weights"]
    assert any("confidence is unknown" in remark for remark in remarks(evidence(), True, None))


def test_multilabel_majority_is_taken_option_by_option():
    voices = (opinion("a", "Glaucoma"), opinion("b", "Glaucoma", "Cataract"), opinion("c", "Glaucoma"))
    agreeing = conflict_of(EYE, ("Glaucoma",), ("Glaucoma",), evidence(*voices))
    assert not agreeing.generalist_against_panel and agreeing.panel_share == pytest.approx(2 / 3)
    assert conflict_of(
        EYE, ("Glaucoma", "Cataract"), ("Glaucoma", "Cataract"), evidence(*voices)
    ).generalist_against_panel
    assert conflict_of(EYE, ("Normal",), ("Normal",), evidence(*voices)).generalist_against_panel


def test_a_specialist_that_says_none_of_the_options_votes_for_none():
    voices = (opinion("a", Normal=0.1, Glaucoma=0.2, Cataract=0.2),)
    conflict = conflict_of(EYE, (), (), evidence(*voices))
    assert conflict.panel_share == 1.0 and not conflict.generalist_against_panel
