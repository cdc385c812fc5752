import io

import pytest
from gsco.agent.reports import view_of
from gsco.agent.reports.pdf import pdf
from gsco.agent.reports.pictures import picture
from gsco.agent.reports.sheet import Sheet
from gsco.case import Opinion
from PIL import Image
from pypdf import PdfReader


def read(data: bytes) -> PdfReader:
    return PdfReader(io.BytesIO(data))


def words(data: bytes) -> str:
    return " ".join(" ".join(page.extract_text() for page in read(data).pages).split())


def test_the_report_is_one_page_with_everything_on_it(diagnosis, thumbnail):
    view = view_of(diagnosis, {"case-0": thumbnail}, title="Shades")
    pictures = [picture(Image.new("L", (90, 60), 50), "The image")]
    made = pdf(Sheet(view, pictures, ["Rejected by Dr A."], "A small model."))
    assert len(read(made).pages) == 1
    text = words(made)
    for expected in (
        "Not a medical device",
        "A small model.",
        "img-0123456789ab",
        "dark?",
        "confidence 40%",
        "a suggestion only",
        "generalist against specialists",
        "one — agrees",
        "two — differs",
        "0.90",
        "weights are damaged",
        "Rejected by Dr A.",
        "<script>",
        "paper@00000000",
    ):
        assert expected in text, expected
    assert len(read(made).pages[0].images) == 2


def test_much_evidence_still_fits_one_page(diagnosis):
    labels = [f"a finding with a rather long name, number {number}" for number in range(40)]
    opinions = tuple(
        Opinion(
            specialist=f"specialist-{number}",
            architecture="a" * 80,
            labels=(labels[0],),
            probabilities=dict.fromkeys(labels, 1 / 40),
            text="A long text. " * 60,
        )
        for number in range(12)
    )
    evidence = diagnosis.evidence.model_copy(update={"opinions": opinions})
    crowded = diagnosis.model_copy(
        update={"evidence": evidence, "probabilities": dict.fromkeys(labels, 1 / 40)}
    )
    made = pdf(Sheet(view_of(crowded)))
    assert len(read(made).pages) == 1
    assert "specialist-11" in words(made) and "and 32 more" in words(made)


@pytest.mark.parametrize("written", ["Übergröße", "αβγ", "пневмония", "肺炎", "\x00\x07 bell", "<b>not bold"])
def test_any_text_can_be_written(diagnosis, written):
    made = pdf(Sheet(view_of(diagnosis.model_copy(update={"reasons": (written,)}))))
    assert len(read(made).pages) == 1
    if written.isprintable() and written != "肺炎":
        assert written in words(made)
