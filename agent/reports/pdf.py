"""A diagnosis as a PDF of one A4 page, through the library ``reportlab``.

Fonts are in the file: DejaVu, which matplotlib brings along, knows Latin, Greek and Cyrillic. What it does
not know appears as a box; the HTML report shows every script that the reader's machine can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from ... import __version__
from .a4_document import LINE, A4Document, fonts, picture
from .pictures import ReportImage
from .sheet import Sheet
from .view import Bar, CaseView, Neighbour, OpinionView, ShareView

if TYPE_CHECKING:
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Flowable

    Cell = Flowable | list[Flowable] | str

_TONES = {"good": "#10693a", "doubt": "#7a4b00", "bad": "#a3180f", "plain": "#16202b"}
_SOFT, _SAID, _BAR = "#55616e", "#0b6bcb", "#7d93ab"
_COLUMNS = 2
_PER_ROW = 10
_MOST_BARS = 8


def pdf(sheet: Sheet) -> bytes:
    """Return the report as a PDF of exactly one page; what is too much for it is set smaller.

    Raises:
        ConfigurationError: the library is not installed.
    """
    title = _encodable(f"{sheet.view.case_id} · {sheet.view.title}")
    document = A4Document(title, margin=12, creator=f"gsco {__version__}")
    from reportlab.platypus import KeepInFrame

    story = list(_story(sheet, document.width))
    return document.build([KeepInFrame(document.width, document.height, story, mode="shrink")])


def _encodable(text: str) -> str:
    """The text without lone surrogates, which names of files that are not UTF-8 hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _story(sheet: Sheet, width: float) -> Iterator[Flowable]:
    view = sheet.view
    yield _text(f"{view.disclaimer} {sheet.note}".strip(), "note")
    yield _beside(list(_answer(view)), _pictures(sheet.pictures, width * 0.45), width)
    if sheet.decision:
        yield _text("Decision of a person", "heading")
        yield from (_text(line) for line in sheet.decision)
    if view.options:
        yield _text("Probabilities", "heading")
        yield _bars(view.options, width)
    if view.shares:
        yield _text("Why", "heading")
        yield _text(view.why)
        yield _shares(view.shares, width)
        if view.generalist:
            yield _text(f"The generalist's own answer: {view.generalist}", "small")
    if view.voices:
        yield _text("Specialists", "heading")
        yield _voices(view.voices, width)
    if view.neighbours:
        yield _text("Similar known cases", "heading")
        yield _gallery(view.neighbours, width)
    if view.missing:
        yield _text("Missing evidence", "heading")
        yield from (_text(line, tone="bad") for line in view.missing)
    yield from (
        _text(line, "small") for line in (*view.footer, f"Written {sheet.when} by gsco {__version__}.")
    )


def _answer(view: CaseView) -> Iterator[Flowable]:
    yield _text(f"Case {view.case_id}", "small")
    question = "?" if view.abstained else ""
    yield _text(view.verdict + question, "verdict", tone="bad" if view.abstained else "plain")
    sure = f" · confidence {view.confidence}" if view.confidence else ""
    yield _text(f"{view.title}{sure}{' · a suggestion only' if view.abstained else ''}", "small")
    for badge in view.badges:
        yield _text(f"■ {badge.words}", tone=badge.tone)
    yield from (_text(f"• {reason}") for reason in (*view.reasons, *view.remarks))


def _beside(left: list[Flowable], right: Cell, width: float) -> Flowable:
    return _grid([[left, right]], [width * 0.55, width * 0.45])


def _pictures(pictures: Sequence[ReportImage], width: float) -> Cell:
    if not pictures:
        return ""
    each = width / min(len(pictures), 3) - 6
    cells: list[Cell] = [[picture(one.png, each, each), _text(one.caption, "small")] for one in pictures[:3]]
    return _grid([cells], [each + 6] * len(cells))


def _bars(bars: Sequence[Bar], width: float) -> Flowable:
    shown = bars[:_MOST_BARS]
    rows: list[list[Cell]] = [
        [_text(bar.label, bold=bar.said), _track(bar, width * 0.42), _text(bar.percent, "number")]
        for bar in shown
    ]
    if len(bars) > len(shown):
        rows.append([_text(f"and {len(bars) - len(shown)} more", "small"), "", ""])
    return _grid(rows, [width * 0.36, width * 0.44, width * 0.2])


def _shares(shares: Sequence[ShareView], width: float) -> Flowable:
    rows: list[list[Cell]] = []
    for share in shares:
        words = ": ".join(filter(None, [share.source, share.says]))
        tone = "good" if share.log_odds > 0 else "bad" if share.log_odds < 0 else "plain"
        bar = Bar(words, share.width, share.log_odds > 0)
        rows.append([_text(words), _track(bar, width * 0.42), _text(share.signed, "number", tone=tone)])
    return _grid(rows, [width * 0.36, width * 0.44, width * 0.2])


def _track(bar: Bar, width: float) -> Flowable:
    from reportlab.graphics.shapes import Drawing, Rect
    from reportlab.lib.colors import HexColor

    drawing = Drawing(width, 8)
    for length, colour in ((width, "#e4e9ee"), (width * bar.value, _SAID if bar.said else _BAR)):
        track = Rect(0, 2, length, 5)
        track.fillColor, track.strokeColor = HexColor(colour), None
        drawing.add(track)
    return drawing


def _voices(voices: Sequence[OpinionView], width: float) -> Flowable:
    column = width / _COLUMNS
    cells: list[Cell] = [list(_voice(one, column - 10)) for one in voices]
    cells += [""] * (-len(cells) % _COLUMNS)
    rows = [cells[start : start + _COLUMNS] for start in range(0, len(cells), _COLUMNS)]
    return _grid(rows, [column] * _COLUMNS, boxed=True)


def _voice(one: OpinionView, width: float) -> Iterator[Flowable]:
    mark = f" — {'agrees' if one.agrees else 'differs'}" if one.bars else ""
    yield _text(
        f"{one.name}{mark}", bold=True, tone="good" if one.agrees else "doubt" if one.bars else "plain"
    )
    trust = f" · {one.reliability}" if one.reliability else ""
    yield _text(f"{one.architecture}{trust}", "small")
    if one.bars:
        yield _bars(one.bars, width)
    if one.text:
        yield _text(one.text)


def _gallery(neighbours: Sequence[Neighbour], width: float) -> Flowable:
    side = width / _PER_ROW
    cells: list[Cell] = [list(_known(one, side - 6)) for one in neighbours[:_PER_ROW]]
    return _grid([cells], [side] * len(cells))


def _known(one: Neighbour, side: float) -> Iterator[Flowable]:
    if one.thumbnail:
        yield picture(one.thumbnail, side, side)
    yield _text(one.says, "caption", tone="good" if one.agrees else "doubt")
    yield _text(f"{one.similarity:.2f}", "caption")


def _grid(rows: Sequence[list[Cell]], widths: list[float], *, boxed: bool = False) -> Flowable:
    from reportlab.lib.colors import HexColor
    from reportlab.platypus import Table

    padding = 4 if boxed else 1
    style: list[tuple[Any, ...]] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), padding if boxed else 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 4),
        ("TOPPADDING", (0, 0), (-1, -1), padding),
        ("BOTTOMPADDING", (0, 0), (-1, -1), padding),
    ]
    if boxed:
        style += [("GRID", (0, 0), (-1, -1), 0.4, HexColor(LINE))]
    return Table(rows, colWidths=widths, style=style, hAlign="LEFT")


def _text(words: str, kind: str = "body", *, tone: str = "plain", bold: bool = False) -> Flowable:
    from reportlab.platypus import Paragraph

    marked = escape(words).replace("\n", "<br/>")
    if bold:
        marked = f"<b>{marked}</b>"
    if tone != "plain":
        marked = f'<font color="{_TONES[tone]}">{marked}</font>'
    return Paragraph(marked, _styles()[kind])


@cache
def _styles() -> dict[str, ParagraphStyle]:
    from reportlab.lib.colors import HexColor
    from reportlab.lib.styles import ParagraphStyle

    regular, strong = fonts()

    def made(
        name: str, size: float, *, font: str = regular, colour: str = "#16202b", **more: Any
    ) -> ParagraphStyle:
        return ParagraphStyle(
            name,
            fontName=font,
            fontSize=size,
            leading=size * 1.3,
            textColor=HexColor(colour),
            splitLongWords=1,
            **more,
        )

    return {
        "body": made("body", 8.5),
        "small": made("small", 7, colour=_SOFT),
        "caption": made("caption", 6),
        "number": made("number", 8.5, alignment=2),
        "verdict": made("verdict", 16, font=strong),
        "heading": made("heading", 8, font=strong, colour=_SOFT, spaceBefore=7, spaceAfter=2),
        "note": made("note", 8, backColor=HexColor("#fdf0d5"), borderPadding=4, spaceAfter=8),
    }
