"""Notes beside a generalist's words: only where they state another decision."""

from __future__ import annotations

import pytest
from gsco.graphs.explanation.contradiction import decided_in
from gsco.tasks import TaskBook

LUNGS = TaskBook().get("chest_xray")
BRAIN = TaskBook().get("brain_mri")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("The opacity covers roughly 20% of the right lung.", ()),
        ("This is pneumonia.", ("pneumonia",)),
        ("No pneumonia is seen.", ("normal",)),
        ("There is no sign of a lung infection.", ()),
        ("All specialists said normal. The diagnosis is pneumonia.", ("pneumonia",)),
        ("The specialists say pneumonia.", ()),
        ("Pneumonia is unlikely; the lungs are clear lungs.", ("normal",)),
        ("The diagnosis is pneumonia. It is not normal.", ("pneumonia",)),
    ],
)
def test_what_is_stated_as_a_decision(text, labels):
    assert decided_in(text, LUNGS) == labels


def test_of_several_options_the_one_that_a_sentence_decides_for():
    text = "Glioma and meningioma look alike here. My conclusion: meningioma."
    assert decided_in(text, BRAIN) == ("meningioma",)
    assert decided_in("Glioma is a tumour of glia, and meningioma one of the meninges.", BRAIN) == ()
