import pytest
from gsco.agent.reports import view_of
from gsco.agent.reports.view import Bar, badges
from gsco.case import Conflict, Evidence, GateReport, TaskKind


def words(diagnosis):
    return {badge.words: badge.tone for badge in badges(diagnosis)}


def test_options_are_ordered_and_the_said_one_is_marked(diagnosis):
    options = view_of(diagnosis).options
    assert [bar.label for bar in options] == ["dark", "bright", "neither", "both"]
    assert [bar.said for bar in options] == [True, False, False, False]
    assert options[0].percent == "40%"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "under 1%"), (0.0004, "under 1%"), (0.5, "50%"), (0.9995, "over 99%"), (1.0, "over 99%")],
)
def test_what_is_almost_certain_does_not_read_as_certain(value, shown):
    assert Bar("x", value, False).percent == shown


def test_each_voice_says_whether_it_agrees(diagnosis):
    one, two, writer = view_of(diagnosis).voices
    assert one.agrees and not two.agrees
    assert two.says == "bright" and two.bars[0].said and two.reliability == ""
    assert writer.bars == () and writer.says == "" and "script" in writer.text


def test_neighbours_carry_their_thumbnail_and_whether_they_agree(diagnosis, thumbnail):
    neighbours = view_of(diagnosis, {"case-1": thumbnail}).neighbours
    assert len(neighbours) == 10, "the page shows ten"
    assert [one.thumbnail is not None for one in neighbours[:3]] == [False, True, False]
    assert [one.agrees for one in neighbours[:4]] == [True, True, True, False]


def test_badges_of_a_case_in_conflict(diagnosis):
    assert words(diagnosis) == {
        "a person must decide": "bad",
        "unlike all known cases": "bad",
        "generalist against specialists": "bad",
        "specialists disagree": "doubt",
        "25% of similar cases agree": "doubt",
        "evidence missing": "doubt",
    }


def test_badges_of_a_clear_case(diagnosis):
    evidence = diagnosis.evidence.model_copy(
        update={"missing": (), "gate": GateReport(task="shade", familiar=True)}
    )
    clear = diagnosis.model_copy(
        update={
            "abstained": False,
            "evidence": evidence,
            "conflict": Conflict(panel_share=1.0, similar_share=1.0),
        }
    )
    assert words(clear) == {"all 2 specialists agree": "good", "100% of similar cases agree": "good"}


def test_no_evidence_gives_no_badge_of_agreement(diagnosis):
    bare = diagnosis.model_copy(
        update={
            "abstained": False,
            "conflict": Conflict(),
            "evidence": Evidence(gate=GateReport(task="shade")),
        }
    )
    assert words(bare) == {}


def test_an_open_task_shows_its_text(diagnosis):
    answered = diagnosis.model_copy(
        update={
            "kind": TaskKind.REPORT,
            "label": None,
            "labels": (),
            "text": "Clear lungs.",
            "probabilities": None,
        }
    )
    view = view_of(answered, title="Reports")
    assert view.verdict == "Clear lungs." and view.title == "Reports" and view.options == ()
    assert not any(one.agrees for one in view.voices)


def test_a_multilabel_case_without_labels_says_so(diagnosis):
    nothing = diagnosis.model_copy(update={"kind": TaskKind.MULTILABEL, "label": "", "labels": ()})
    assert view_of(nothing).verdict == "none of the options"


def test_the_shares_of_a_decision_are_shown_for_and_against(diagnosis):
    from gsco.case import Answer, Fusion, ObservedAccuracy, Voice

    fusion = Fusion(
        rule="fused",
        fitted=True,
        decision="dark",
        rival="bright",
        log_odds=0.7,
        prior=-0.3,
        voices=(
            Voice(source="one", kind="specialist", labels=("dark",), weight=0.8, log_odds=2.0),
            Voice(source="generalist", kind="generalist", labels=("bright",), weight=0.4, log_odds=-1.0),
        ),
        counter_example=diagnosis.evidence.similar_cases[0],
    )
    answer = Answer(labels=("bright",), probabilities={"dark": 0.3, "bright": 0.7})
    shown = view_of(
        diagnosis.model_copy(
            update={
                "fusion": fusion,
                "generalist_answer": answer,
                "observed": ObservedAccuracy(n=212, right=201),
                "promise": "answers alone; certified error at most 5%",
            }
        )
    )
    assert shown.why == "For dark, against bright"
    assert [(one.source, one.signed, one.width) for one in shown.shares] == [
        ("one", "+2.0", 1.0),
        ("generalist", "-1.0", 0.5),
        ("how frequent the labels are", "-0.3", 0.15),
    ]
    assert shown.generalist == "bright (70%)"
    assert shown.confidence == "40%; of 212 cases this sure, 201 were right"
    assert shown.reasons[0] == "answers alone; certified error at most 5%"
    assert shown.counter_example.id == diagnosis.evidence.similar_cases[0].id
