"""Whatever texts say, they are shown and never run."""

from datetime import UTC, datetime

import pytest
from gsco.agent.page.bubbles import answered, bubbles_of, remarks, user_bubbles
from gsco.agent.page.case_card import case_card
from gsco.agent.page.fragments import (
    alert,
    downloads,
    figures,
    lines,
    login,
    plain,
    progress,
    review_form,
    status_line,
)
from gsco.agent.page.turn_state import TurnState
from gsco.agent.records import ThreadRecord, Utterance
from gsco.agent.reports.export import decision
from gsco.agent.reports.html import card, panel
from gsco.agent.reports.pictures import ReportImage
from gsco.agent.reports.view import UNDECIDED, decision_words, view_of, view_of_evidence
from gsco.case import DISCLAIMER, ObservedAccuracy, ReviewDecision
from gsco.graphs.events import Finding, ReviewRequested
from gsco.graphs.middleware.human_review import decided

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}${7 * 7}'


@pytest.mark.parametrize(
    "made",
    [
        plain(HOSTILE),
        alert(HOSTILE),
        review_form([HOSTILE]),
        lines([HOSTILE]),
        progress(HOSTILE),
        status_line(HOSTILE),
        figures([ReportImage(b"", HOSTILE)], captions=True),
        downloads(HOSTILE, 0),
    ],
)
def test_text_is_escaped(made):
    assert "<script" not in made and "<img src=x" not in made
    assert "{{ 7 * 7 }}" in made or "%7B%7B" in made


def test_evidence_without_a_decision(diagnosis, thumbnail):
    view = view_of_evidence(diagnosis.evidence, "img-1", {"case-0": thumbnail}, title="Shades")
    html = panel(view)
    assert UNDECIDED in html and "agrees" not in html and "differs" not in html
    assert html.count("<table") == 2 and html.count("data:image/jpeg") == 1
    assert "unlike all known cases" in html and "evidence missing" in html and "<script" not in html


def test_a_decision_in_short(diagnosis):
    html = card(view_of(diagnosis), "40%")
    assert "dark?" in html and "40%" in html and "<script" not in html


def test_a_card_says_only_what_the_words_do_not(diagnosis):
    view = view_of(diagnosis)
    assert "dark?" in case_card(view, diagnosis, "I cannot say.") and "40%" in case_card(view, diagnosis, "")
    assert case_card(view, diagnosis, "It is dark, with a probability of 40%.") == ""
    assert case_card(view, diagnosis, "dark 40%", "<links>") == "<links>"


def test_bubbles_of_a_turn(diagnosis):
    turn = TurnState(words=HOSTILE, diagnoses=(diagnosis,), notes=(HOSTILE,), doing="")
    bubbles = [*user_bubbles(HOSTILE, "<img>"), *answered(turn), *remarks(turn)]
    assert [one.role for one in bubbles] == ["user", "user", "assistant", "assistant"]
    assert all("<script" not in one.words + one.fragment for one in bubbles)


def test_a_conversation_that_waits_for_a_person(diagnosis):
    record = ThreadRecord(
        thread_id="t",
        user="u",
        updated=datetime.now(UTC),
        status="review",
        said=(
            Utterance(role="user", text=HOSTILE, images=("img-1",), turn="one"),
            Utterance(role="assistant", text=""),
            Utterance(role="tool", text="what a tool said"),
            Utterance(role="assistant", text="First."),
            Utterance(role="user", text="And?", turn="two"),
        ),
        findings=(
            Finding(id="1", turn="one", tool="diagnose", diagnosis=diagnosis),
            Finding(id="2", turn="two", tool="classify"),
            Finding(id="3", turn="two", tool="diagnose", diagnosis=diagnosis),
        ),
    )
    review = ReviewRequested(id="3", diagnosis=diagnosis, reasons=(HOSTILE,))
    bubbles = bubbles_of(
        record, lambda ids: f"pictures {ids}", lambda one, said: f"card {said}".strip(), review
    )
    assert [one.words or one.fragment for one in bubbles[:-1]] == [
        "pictures ('img-1',)",
        plain(HOSTILE),
        "First.",
        "card First.",
        "And?",
        "card",
    ]
    assert "A person must decide" in bubbles[-1].fragment and "<script" not in bubbles[-1].fragment


@pytest.mark.parametrize(
    ("action", "more", "badge"),
    [
        ("approve", {}, "approved by a person"),
        ("edit", {"labels": ("bright",), "reason": HOSTILE}, "changed by a person"),
        ("reject", {"reason": HOSTILE}, "rejected by a person"),
    ],
)
def test_a_decision_of_a_person_is_told(diagnosis, action, more, badge):
    made = ReviewDecision(action=action, reviewer="Dr. O'Neil", **more)
    reviewed = decided(diagnosis, made, ("why",), datetime.now(UTC))
    html = panel(view_of(reviewed), decision=decision(reviewed))
    assert badge in html and "a person must decide" not in html and "Asked because: why" in html
    assert ("agree with the proposal" in html) == (action != "approve")
    assert "<script" not in html


def test_another_decision_than_the_proposed_one_has_no_confidence(diagnosis):
    """What was measured and promised of the program's decision is not said of a person's."""
    measured = {"observed": ObservedAccuracy(n=56, right=55), "promise": "certified error at most 5%"}
    proposed = diagnosis.model_copy(update=measured)
    changed = ReviewDecision(action="edit", reviewer="Ana", labels=("bright",), reason="seen")
    reviewed = decided(proposed, changed, ("why",), datetime.now(UTC))
    shown = view_of(reviewed)
    assert shown.verdict == "bright" and shown.confidence == ""
    assert "certified" not in str(shown) and "of 56 cases" not in str(shown)
    assert decision_words(reviewed) == "bright, changed by a person"
    approved = decided(
        proposed, ReviewDecision(action="approve", reviewer="Ana"), ("why",), datetime.now(UTC)
    )
    assert view_of(approved).confidence == "40%; of 56 cases this sure, 55 were right"
    assert decision_words(approved) == "dark 40%"


def test_the_page_that_asks_for_a_key():
    assert DISCLAIMER in login() and "Invalid key" not in login() and "Invalid key" in login(wrong=True)
    assert '<p class="gsco alert"' in login(wrong=True)
