"""The PDF of a build's report says what its page says, on sheets that pages are split over."""

from __future__ import annotations

import base64
import io
import re
import zlib

import pytest
from gsco.evals.build.pdf import page_pdf
from PIL import Image

pytest.importorskip("reportlab")


def text_of(pdf: bytes) -> str:
    """The PDF's own strings; fonts of the reader are used so that the letters stand in it."""
    streams = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.S)
    found = b"".join(zlib.decompress(base64.a85decode(b"<~" + one.strip(), adobe=True)) for one in streams)
    return b"".join(re.findall(rb"\((.*?)\) Tj", found)).decode("latin-1")


@pytest.fixture
def plain_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    from gsco.agent.reports import a4_document
    from gsco.evals.build import pdf as pages

    monkeypatch.setattr(a4_document, "fonts", lambda: ("Helvetica", "Helvetica-Bold"))
    pages._styles.cache_clear()


@pytest.mark.usefixtures("plain_fonts")
def test_headings_tables_lists_and_verdict_are_in_it() -> None:
    page = """<title>not this</title><style>p { color: red }</style><h1>skin v1</h1>
    <p class="verdict">Measured: right in 80 &lt; 90</p>
    <table><tr><th>arm</th><th class="n">accuracy</th></tr>
    <tr><td><b>gsco</b>, what ships</td><td class="n">0.8</td></tr></table><ul><li>one note</li></ul>"""
    told = text_of(page_pdf(page))
    for words in ("skin v1", "Measured: right in 80 < 90", "gsco, what ships", "0.8", "one note"):
        assert words in told
    assert "not this" not in told
    assert "color" not in told


def test_images_of_the_page_are_in_it_and_no_others() -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    address = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    figure = f'<figure><img src="{address}">nevus</figure>'
    assert page_pdf(figure).count(b"/Subtype /Image") == 1
    assert page_pdf(f'<img src="{address}">').count(b"/Subtype /Image") == 1
    for elsewhere in ("https://example.org/a.png", "file:///etc/passwd", "/etc/passwd"):
        assert b"/Subtype /Image" not in page_pdf(f'<p>x</p><img src="{elsewhere}">')


def test_a_long_table_and_a_long_cell_go_over_several_sheets() -> None:
    rows = "".join(f"<tr><td>{n}</td><td>{'word ' * 40}</td></tr>" for n in range(80))
    long = f"<table><tr><th>a</th><th>b</th></tr>{rows}<tr><td>x</td><td>{'word ' * 4000}</td></tr></table>"
    assert page_pdf(long).count(b"/Type /Page\n") > 3
    assert page_pdf("<p>a</p>") == page_pdf("<p>a</p>")
