"""Text of others (labels, names of files and models, reports) on its way to page, PDF and terminal."""

from __future__ import annotations

import io
import time
from html.parser import HTMLParser

import pytest
from gsco.agent.exit_codes import visible
from gsco.agent.reports import view_of
from gsco.agent.reports.html import card, page, panel
from gsco.agent.reports.pdf import pdf
from gsco.agent.reports.pictures import CasePictures, picture
from gsco.agent.reports.sheet import Sheet
from gsco.agent.terminal_output import print_diagnosis
from gsco.case import Diagnosis, Missing
from PIL import Image
from pypdf import PdfReader
from rich.console import Console

from ..agent.reports.examples import diagnosis

__all__ = ["diagnosis"]

pytestmark = pytest.mark.attack

HOSTILE = {
    "script": '"><script>alert(1)</script><img src=x onerror=alert(2)>',
    "attribute": "' onmouseover='alert(1)' x='\" autofocus onfocus=alert(1) x=\"",
    "link": '[look](javascript:alert(1)) <a href="javascript:alert(1)">look</a>',
    "template": "{{ 7 * 7 }}{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}${7*7}",
    "end of style": "</style></title></textarea></script><svg onload=alert(1)>",
    "cdata": "]]><!--<script>alert(1)//-->",
    "reportlab": '<para><img src="file:///etc/passwd"/><font name="nothing"><b>',
    "reportlab entity": '&nbsp;&#0;&#x110000;&lt;b&gt;<greek>a</greek><onDraw name="x"/>',
    "pdf": ") Tj ET endstream endobj << /S /JavaScript /JS (app.alert(1)) >>",
    "nul": "a\0b\x01\x08\x0b\x0c\x1f\x7f\x85",
    "terminal": "\x1b[2J\x1b]0;title\x07\x9b31m\r\nroot# ",
    "right to left": "\u202e\u2066gnp.exe\u2069",
    "surrogate": "\ud800 \udfff",
    "not a character": "\ufffe\uffff\U0010ffff",
    "combining": "a" + "\u0301" * 2000,
    "long": "x" * 50_000,
    "lines": "\n" * 5000,
    "formula": '=HYPERLINK("http://example.invalid","look")',
    "percent": "%s%n%d{0}{0.__class__}",
}


def told(diagnosis: Diagnosis, text: str) -> Diagnosis:
    """The diagnosis with the text in every place that others fill."""
    evidence = diagnosis.evidence
    opinions = tuple(
        one.model_copy(update={"specialist": text, "architecture": text, "text": text and one.text and text})
        for one in evidence.opinions
    )
    cases = tuple(
        one.model_copy(update={"source": text, "report": text, "labels": (text,), "id": text})
        for one in evidence.similar_cases
    )
    missing = (Missing(source=text, reason=text),)
    return diagnosis.model_copy(
        update={
            "label": text,
            "labels": (text,),
            "probabilities": {text: 0.6, "other": 0.4},
            "reasons": (text,),
            "text": text,
            "generalist": text,
            "case_id": text,
            "task": text,
            "evidence": evidence.model_copy(
                update={"opinions": opinions, "similar_cases": cases, "missing": missing}
            ),
        }
    )


class Tags(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "iframe", "object", "embed", "svg", "base", "form", "link"):
            self.found.append(tag)
        for name, value in attrs:
            address = (value or "").strip().lower()
            if name.startswith("on") or address.startswith(("javascript:", "http", "//", "file:")):
                self.found.append(f"{tag} {name}={value}")


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_becomes_markup(diagnosis, name):
    start = time.monotonic()
    view = view_of(told(diagnosis, HOSTILE[name]), {}, title=HOSTILE[name])
    sheet = Sheet(view, [], [HOSTILE[name]], HOSTILE[name])
    pictures = CasePictures(picture(Image.new("L", (8, 8)), HOSTILE[name]))
    for html in (card(view, [HOSTILE[name]]), panel(view, pictures, [HOSTILE[name]]), page(sheet)):
        tags = Tags()
        tags.feed(html)
        assert tags.found == list[str]()
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_breaks_the_pdf(diagnosis, name):
    start = time.monotonic()
    view = view_of(told(diagnosis, HOSTILE[name]), {}, title=HOSTILE[name])
    made = pdf(Sheet(view, [], [HOSTILE[name]], HOSTILE[name]))
    read = PdfReader(io.BytesIO(made))
    assert len(read.pages) == 1
    root = str(read.trailer["/Root"].get_object())
    assert "/JavaScript" not in root and "/OpenAction" not in root
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_steers_the_terminal(diagnosis, name):
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    print_diagnosis(told(diagnosis, HOSTILE[name]), console, title=HOSTILE[name])
    said = console.file.getvalue()
    assert not [sign for sign in said if sign in "\x1b\x9b\x07\x00\u202e"]
    assert "\x1b" not in visible(HOSTILE[name])
