"""The report of a build as PDF: the page that the template made, laid out by the library ``reportlab``."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from ...agent.reports.a4_document import LINE, A4Document, picture

if TYPE_CHECKING:
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Flowable

_TEXTS = {"h1": "title", "h2": "heading", "p": "body", "li": "body", "figure": "small"}
"""Elements that hold text, and the style of each."""
_SKIPPED = frozenset({"style", "title", "script", "svg"})
_DATA = re.compile(r"data:image/(?:png|jpeg);base64,([A-Za-z0-9+/=]+)")
_FIGURES = 6
"""Small images in a row."""


def page_pdf(page: str) -> bytes:
    """Lay a build's page out on A4 sheets.

    Args:
        page: HTML as ``write_page`` writes it: headings, paragraphs, lists, tables and images within the
            page. Nothing is fetched, and other elements give their text alone.

    Raises:
        ConfigurationError: the library is not installed.
    """
    document = A4Document("gsco build", margin=14, invariant=1)
    parser = _PageParser(document.width)
    parser.feed(page)
    parser.close()
    return document.build(parser.finished())


@dataclass
class _Text:
    """An element whose text is being read."""

    tag: str
    style: str
    parts: list[str] = field(default_factory=list)
    image: Flowable | None = None


class _PageParser(HTMLParser):
    """Turns the page's elements into what reportlab lays out."""

    def __init__(self, width: float) -> None:
        super().__init__()
        self._width = width
        self._story: list[Flowable] = []
        self._open: list[_Text] = []
        self._rows: list[list[_Text]] | None = None
        self._figures: list[_Text] = []
        self._skipped = 0

    def finished(self) -> list[Flowable]:
        """Everything in its order."""
        self._flush_figures()
        return self._story

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in _SKIPPED:
            self._skipped += 1
        elif tag == "table":
            self._flush_figures()
            self._rows = []
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in ("td", "th"):
            number = "number" if given.get("class") == "n" else "body"
            self._open.append(_Text(tag, number))
        elif tag in _TEXTS:
            if tag != "figure":
                self._flush_figures()
            self._open.append(_Text(tag, "verdict" if given.get("class") == "verdict" else _TEXTS[tag]))
        elif tag == "img":
            self._image(given.get("src", ""))
        elif tag == "br" and self._open:
            self._open[-1].parts.append("<br/>")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SKIPPED:
            self._skipped -= 1
        elif tag == "table" and self._rows is not None:
            self._story.append(_table([row for row in self._rows if row], self._width))
            self._rows = None
        elif self._open and self._open[-1].tag == tag:
            self._close(self._open.pop())

    def handle_data(self, data: str) -> None:
        if self._open and not self._skipped:
            self._open[-1].parts.append(escape(re.sub(r"\s+", " ", data)))
        elif data.strip() and not self._skipped:
            self._story.append(_paragraph(escape(data.strip()), "body"))

    def _close(self, text: _Text) -> None:
        if text.tag in ("td", "th"):
            if self._rows:
                self._rows[-1].append(text)
        elif text.tag == "figure":
            self._figures.append(text)
        else:
            mark = "• " if text.tag == "li" else ""
            self._story.append(_paragraph(mark + "".join(text.parts).strip(), text.style))

    def _image(self, address: str) -> None:
        found = _DATA.fullmatch(address)
        if found is None:
            return
        data = base64.b64decode(found[1])
        if self._open and self._open[-1].tag == "figure":
            side = self._width / _FIGURES - 8
            self._open[-1].image = picture(data, side, side)
        else:
            self._story.append(picture(data, self._width, self._width))

    def _flush_figures(self) -> None:
        from reportlab.platypus import Table

        for start in range(0, len(self._figures), _FIGURES):
            row = [_figure_cell(one) for one in self._figures[start : start + _FIGURES]]
            row += [""] * (_FIGURES - len(row))
            style = [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)]
            self._story.append(
                Table([row], colWidths=[self._width / _FIGURES] * _FIGURES, style=style, hAlign="LEFT")
            )
        self._figures = []


def _figure_cell(one: _Text) -> list[Flowable]:
    words = _paragraph("".join(one.parts).strip(), "small")
    return [words] if one.image is None else [one.image, words]


def _table(rows: list[list[_Text]], width: float) -> Flowable:
    """A table whose columns are as wide as their longest texts ask for, as far as there is room."""
    from reportlab.lib.colors import HexColor
    from reportlab.platypus import Table

    texts = [["".join(cell.parts).strip() for cell in row] for row in rows]
    number = max(map(len, texts), default=1)
    longest = [
        min(60, max((len(row[place]) for row in texts if place < len(row)), default=1)) + 2
        for place in range(number)
    ]
    cells = [
        [
            _paragraph(f"<b>{text}</b>" if cell.tag == "th" else text, cell.style)
            for cell, text in zip(row, told, strict=True)
        ]
        + [""] * (number - len(row))
        for row, told in zip(rows, texts, strict=True)
    ]
    style = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(LINE)),
    ]
    widths = [width * one / sum(longest) for one in longest]
    return Table(cells, colWidths=widths, style=style, hAlign="LEFT", repeatRows=1, splitInRow=1)


def _paragraph(marked: str, style: str) -> Flowable:
    from reportlab.platypus import Paragraph

    return Paragraph(marked, _styles()[style])


@cache
def _styles() -> dict[str, ParagraphStyle]:
    from reportlab.lib.colors import HexColor
    from reportlab.lib.styles import ParagraphStyle

    from ...agent.reports.a4_document import fonts

    regular, strong = fonts()

    def made(name: str, size: float, font: str = regular, **more: Any) -> ParagraphStyle:
        return ParagraphStyle(
            name, fontName=font, fontSize=size, leading=size * 1.3, splitLongWords=1, spaceAfter=3, **more
        )

    return {
        "title": made("title", 15, strong),
        "verdict": made("verdict", 11, strong, backColor=HexColor("#f3f7fb"), borderPadding=4, spaceBefore=4),
        "heading": made("heading", 10.5, strong, spaceBefore=9),
        "body": made("body", 8),
        "number": made("number", 8, alignment=2),
        "small": made("small", 6.5),
    }
