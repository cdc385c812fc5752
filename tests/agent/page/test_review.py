"""What the form of a decision says."""

import pytest
from gsco.agent.page.review import decision_of


def test_an_approval_needs_a_name_only():
    decision = decision_of("approve", "left over", "left over", " Ana ")
    assert (decision.action, decision.reviewer, decision.reason, decision.labels) == (
        "approve",
        "Ana",
        "",
        (),
    )


@pytest.mark.parametrize("labels", ["dark", ["dark"]])
def test_an_edit_names_the_right_label(labels):
    assert decision_of("edit", labels, "seen", "Ana").labels == ("dark",)


def test_a_rejection_keeps_no_label():
    decision = decision_of("reject", ["dark"], "blurred", "Ana")
    assert decision.labels == () and decision.reason == "blurred"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("approve", None, "", " "), "who decides"),
        (("reject", None, " ", "Ana"), "reason"),
        (("edit", [], "seen", "Ana"), "right label"),
        (("burn", None, "why", "Ana"), "does not fit"),
        (("approve", None, "", "A" * 300), "does not fit"),
        (("reject", None, "x" * 3000, "Ana"), "does not fit"),
    ],
)
def test_what_is_left_out_is_said(given, words):
    with pytest.raises(ValueError, match=words) as caught:
        decision_of(*given)
    assert "A" * 300 not in str(caught.value)


@pytest.mark.attack
@pytest.mark.parametrize("name", ["Dr. <i>A</i>", "Dr.\nB", "Dr. \u202eB", "\u200b", "**Dr. B**", "B\x00"])
def test_a_name_holds_no_markup_or_control_characters(name):
    with pytest.raises(ValueError, match="a name holds no"):
        decision_of("approve", None, "", name)
