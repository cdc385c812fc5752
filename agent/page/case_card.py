"""The record of a diagnosis beside the words about it: what they do not say, and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...graphs.explanation.sentences import percent
from ..reports.html import card

if TYPE_CHECKING:
    from ...case import Diagnosis
    from ..reports.view import CaseView


def case_card(view: CaseView, diagnosis: Diagnosis, said: str, links: str = "") -> str:
    """Return the card as a fragment; empty where there is nothing to add.

    Args:
        view: the diagnosis for readers.
        diagnosis: the same.
        said: the words of the answer. A verdict and a confidence that stand in them are not repeated.
        links: to the report.
    """
    sure = "" if diagnosis.confidence is None else percent(diagnosis.confidence)
    labels = diagnosis.labels if diagnosis.kind.closed else (diagnosis.text or "",)
    told = bool(labels) and sure in said and all(label in said for label in labels)
    return f"{'' if told else card(view, sure)}{links}"
