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
from .pictures import NO_PICTURES, CasePictures
from .sheet import Sheet
from .view import CaseView

if TYPE_CHECKING:
    from jinja2 import Environment


def panel(view: CaseView, pictures: CasePictures = NO_PICTURES, decision: Sequence[str] = ()) -> str:
    """Return the evidence as a fragment for the chat page; it needs ``style`` around it.

    Args:
        view: the diagnosis and its evidence.
        pictures: the image, the heat over it, and the known case beside it.
        decision: lines on what a person decided.
    """
    return (
        _templates()
        .get_template("panel.html")
        .render(
            view=view,
            image=pictures.image,
            heat=pictures.heat,
            beside=next((one for one in view.neighbours if one.thumbnail), None),
            decision=decision,
        )
    )


def viewer(pictures: CasePictures) -> str:
    """Return the image with heat over it, as a fragment."""
    return _templates().get_template("viewer.html").render(image=pictures.image, heat=pictures.heat)


def card(view: CaseView, sure: str = "") -> str:
    """Return the verdict in a line, as a fragment.

    Args:
        view: the diagnosis.
        sure: its confidence in words.
    """
    return _templates().get_template("card.html").render(view=view, sure=sure)


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
