"""Diagnoses as HTML: a panel for the chat page, and a page that stands alone.

Every text is escaped, whoever wrote it: labels, reports of known cases and a model's words may hold
anything. The page loads nothing: styles and pictures are in it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from ... import __version__
from .pictures import ReportImage
from .sheet import Sheet
from .view import CaseView

if TYPE_CHECKING:
    from jinja2 import Environment


def panel(view: CaseView, pictures: Sequence[ReportImage] = (), decision: Sequence[str] = ()) -> str:
    """Return the evidence as a fragment; it needs ``style`` around it. See ``Sheet`` for the arguments."""
    return _templates().get_template("panel.html").render(view=view, pictures=pictures, decision=decision)


def card(view: CaseView, decision: Sequence[str] = ()) -> str:
    """Return verdict, badges and what a person decided, as a fragment."""
    return _templates().get_template("card.html").render(view=view, decision=decision)


def page(sheet: Sheet) -> str:
    """Return a whole page that prints on one sheet."""
    return (
        _templates()
        .get_template("page.html")
        .render(
            view=sheet.view,
            pictures=sheet.pictures,
            decision=sheet.decision,
            note=sheet.note,
            style=style(),
            version=__version__,
            written=sheet.when,
        )
    )


def style() -> str:
    """Return the style sheet of panel and page; all of its rules are below the class ``gsco``."""
    from markupsafe import Markup

    environment = _templates()
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, "style.css")[0])


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("gsco.agent.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["jpeg"] = _jpeg
    return environment


def _jpeg(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
