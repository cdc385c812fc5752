from gsco.agent.page.turn_state import BEGINNING, TurnState
from gsco.case import GateReport, Missing, Opinion, SimilarCase
from gsco.graphs.events import EvidenceArrived, Final, ReviewRequested, Text, ToolFinished, ToolStarted

ONE = Opinion(
    specialist="one", architecture="vit", labels=("dark",), probabilities={"dark": 0.9, "bright": 0.1}
)
TWO = Opinion(
    specialist="two", architecture="vit", labels=("dark",), probabilities={"dark": 0.8, "bright": 0.2}
)
KNOWN = SimilarCase(
    id="case-1", sha256="0" * 64, task="shade", labels=("dark",), similarity=0.9, encoder="shade/own"
)
LOST = Missing(source="specialist:three", reason="damaged")


def unfolded(*events) -> TurnState:
    turn = TurnState()
    for event in events:
        turn = turn.after(event)
    return turn


def test_it_begins_with_nothing():
    assert TurnState().doing == BEGINNING and TurnState().evidence is None and TurnState().diagnosis is None


def test_evidence_of_one_image_and_task_comes_together():
    turn = unfolded(
        EvidenceArrived(image="img-a", task="shade", gate=GateReport(task="shade", familiar=False)),
        EvidenceArrived(image="img-a", task="shade", opinions=(ONE,)),
        EvidenceArrived(image="img-a", task="shade", opinions=(TWO, ONE), missing=(LOST,)),
        EvidenceArrived(image="img-a", task="shade", similar_cases=(KNOWN,), missing=(LOST,)),
    )
    assert turn.evidence is not None
    image, evidence = turn.evidence
    assert image == "img-a" and evidence.opinions == (ONE, TWO) and evidence.similar_cases == (KNOWN,)
    assert evidence.missing == (LOST,) and evidence.gate.familiar is False


def test_evidence_of_the_latest_image_is_shown():
    turn = unfolded(
        EvidenceArrived(image="img-a", task="shade", opinions=(ONE,)),
        EvidenceArrived(image="img-b", task="shade", opinions=(TWO,)),
    )
    assert turn.evidence is not None
    image, evidence = turn.evidence
    assert image == "img-b" and evidence.opinions == (TWO,) and evidence.gate.task == "shade"


def test_words_follow_each_other_and_are_not_repeated_at_the_end(diagnosis):
    turn = unfolded(Text(text="It is "), Text(text="dark."))
    assert turn.words == "It is dark." and turn.doing == "Answering"
    ended = turn.after(
        Final(text="It is dark.", diagnosis=diagnosis, diagnoses=(diagnosis,), notes=("note",))
    )
    assert ended.words == "It is dark." and ended.doing == "" and ended.notes == ("note",)
    assert ended.diagnosis == diagnosis


def test_an_answer_that_was_not_streamed_is_shown_at_the_end():
    assert unfolded(Final(text="It is dark.")).words == "It is dark."


def test_tools_are_told_in_words():
    started = unfolded(ToolStarted(call="1", name="classify"))
    assert started.doing == "Asking the specialists"
    assert unfolded(ToolStarted(call="1", name="mine")).doing == "Working on mine"


def test_a_review_shows_the_diagnosis_once(diagnosis):
    turn = unfolded(
        ToolFinished(call="1", name="diagnose", diagnosis=diagnosis),
        ReviewRequested(id="1", diagnosis=diagnosis, reasons=("doubt",)),
    )
    assert turn.diagnoses == (diagnosis,) and turn.review.reasons == ("doubt",) and turn.doing == ""
