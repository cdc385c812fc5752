"""Diagnoses as HTML: a panel for the chat page, and a page that stands alone.

Every text is escaped, whoever wrote it: labels, reports of known cases and a model's words may hold
anything. The page loads nothing: styles and pictures are in it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from ... import __version__
from .pictures import Picture
from .view import CaseView

if TYPE_CHECKING:
    from jinja2 import Environment


def panel(view: CaseView, pictures: Sequence[Picture] = (), decision: Sequence[str] = ()) -> str:
    """Return the evidence as a fragment; it needs ``style`` around it. See ``page`` for the arguments."""
    return _templates().get_template("panel.html").render(view=view, pictures=pictures, decision=decision)


def card(view: CaseView, decision: Sequence[str] = ()) -> str:
    """Return verdict, badges and what a person decided, as a fragment."""
    return _templates().get_template("card.html").render(view=view, decision=decision)


def page(
    view: CaseView,
    *,
    pictures: Sequence[Picture] = (),
    decision: Sequence[str] = (),
    note: str = "",
    written: datetime | None = None,
) -> str:
    """Return a whole page that prints on one sheet.

    Args:
        view: what is shown.
        pictures: the case's images, and where specialists looked.
        decision: lines on what a person decided, if anybody did.
        note: what readers must know besides the disclaimer.
        written: date and time of the report; now if None.
    """
    return (
        _templates()
        .get_template("page.html")
        .render(
            view=view,
            pictures=pictures,
            decision=decision,
            note=note,
            style=style(),
            version=__version__,
            written=(written or datetime.now().astimezone()).strftime("%Y-%m-%d %H:%M %Z").strip(),
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
