"""Whatever texts say, they are shown and never run."""

import pytest
from gsco.agent.reports.html import card, panel
from gsco.agent.reports.pictures import Picture
from gsco.agent.reports.view import UNDECIDED, view_of, view_of_evidence
from gsco.agent.ui.bubbles import answered, asked
from gsco.agent.ui.fragments import alert, asking, downloads, lines, login, plain, progress, shown, standing
from gsco.agent.ui.unfolding import Unfolding
from gsco.case import DISCLAIMER
from gsco.graphs.events import ReviewAsked

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}${7 * 7}'


@pytest.mark.parametrize(
    "made",
    [
        plain(HOSTILE), alert(HOSTILE), asking([HOSTILE]), lines([HOSTILE]), progress(HOSTILE),
        standing(HOSTILE), shown([Picture(b"", HOSTILE)], captions=True), downloads(HOSTILE, 0),
    ],
)  # fmt: skip
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
    html = card(view_of(diagnosis))
    assert "dark?" in html and "abstained: a person must decide" in html and "<script" not in html


def test_bubbles_of_a_turn(diagnosis):
    review = ReviewAsked(id="1", diagnosis=diagnosis, reasons=(HOSTILE,))
    turn = Unfolding(words=HOSTILE, diagnoses=(diagnosis,), notes=(HOSTILE,), review=review, doing="")
    bubbles = [*asked(HOSTILE, "<img>"), *answered(turn, lambda one: card(view_of(one)))]
    assert [one.role for one in bubbles] == [
        "user",
        "user",
        "assistant",
        "assistant",
        "assistant",
        "assistant",
    ]
    assert all("<script" not in one.words + one.fragment for one in bubbles)


def test_while_it_works_only_words_are_shown(diagnosis):
    turn = Unfolding(words="So far", diagnoses=(diagnosis,))
    assert [one.words for one in answered(turn, lambda one: "card")] == ["So far"]


def test_the_page_that_asks_for_a_key():
    assert DISCLAIMER in login() and "no such key" not in login() and "no such key" in login(wrong=True)
    assert '<p class="gsco alert"' in login(wrong=True)
