"""What all PDF reports share: A4 sheets with margins, and fonts that are in the file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING

from ...errors import ConfigurationError

if TYPE_CHECKING:
    from reportlab.platypus import Flowable, Image

LINE = "#d5dbe1"
"""Colour of the lines of tables."""
_PADDING = 12
"""Points that the template keeps free within its frame, both sides together."""


class A4Document:
    """A document of A4 sheets, laid out by the library ``reportlab``.

    Args:
        title: in the file's properties.
        margin: on each side, in mm.
        more: further options of ``reportlab.platypus.SimpleDocTemplate``.

    Raises:
        ConfigurationError: the library is not installed.

    Attributes:
        width: of what is laid out, in points.
        height: the same.
    """

    def __init__(self, title: str, *, margin: float, **more: object) -> None:
        try:
            from reportlab.lib.pagesizes import A4
            from reportlab.lib.units import mm
            from reportlab.platypus import SimpleDocTemplate
        except ImportError as error:
            raise ConfigurationError("PDF reports need another package: pip install 'gsco[ui]'") from error
        self._buffer = BytesIO()
        margins = dict.fromkeys(("leftMargin", "rightMargin", "topMargin", "bottomMargin"), margin * mm)
        self._template = SimpleDocTemplate(
            self._buffer, pagesize=A4, title=title, author="", **margins, **more
        )
        self.width, self.height = self._template.width - _PADDING, self._template.height - _PADDING

    def build(self, story: Sequence[Flowable]) -> bytes:
        """Lay out flowables in their order and return the file."""
        self._template.build(list(story))
        return self._buffer.getvalue()


def picture(data: bytes, width: float, height: float) -> Image:
    """An image file as large as fits, on the left."""
    from PIL import Image as Pillow
    from reportlab.platypus import Image

    with Pillow.open(BytesIO(data)) as opened:
        scale = min(width / opened.width, height / opened.height)
        size = (opened.width * scale, opened.height * scale)
    return Image(BytesIO(data), *size, hAlign="LEFT")


@cache
def fonts() -> tuple[str, str]:
    """Register DejaVu where matplotlib has it; else the fonts that every reader of PDF has."""
    from pathlib import Path

    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    try:
        import matplotlib
    except ImportError:
        return ("Helvetica", "Helvetica-Bold")
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    pdfmetrics.registerFont(TTFont("DejaVu", folder / "DejaVuSans.ttf"))
    pdfmetrics.registerFont(TTFont("DejaVu-Bold", folder / "DejaVuSans-Bold.ttf"))
    pdfmetrics.registerFontFamily(
        "DejaVu", normal="DejaVu", bold="DejaVu-Bold", italic="DejaVu", boldItalic="DejaVu-Bold"
    )
    return ("DejaVu", "DejaVu-Bold")
