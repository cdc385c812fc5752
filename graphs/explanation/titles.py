"""What readers call the specialists of a case; their own names stand in the record."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...case import Diagnosis, Evidence, Missing
from .record import ImageRecord
from .sentences import listed

SOURCE = "specialist:"
"""With the name, stands for a specialist in ``Evidence.missing`` and ``timings``."""
_NUMBERED = re.compile(r"Specialist (\d+)")


def specialist_title(number: int) -> str:
    """What readers call a specialist; its own name is a detail."""
    return f"Specialist {number}"


def titles(evidence: Evidence) -> dict[str, str]:
    """By name of a specialist, what it is called: by number, those that gave no opinion last."""
    names = [one.specialist for one in evidence.opinions]
    names += [one.source.removeprefix(SOURCE) for one in evidence.missing if one.source.startswith(SOURCE)]
    return {name: specialist_title(number) for number, name in enumerate(dict.fromkeys(names), start=1)}


def together(names: Sequence[str]) -> str:
    """Names in a list; those with numbers only share their noun: ``Specialists 1, 3 and 4``."""
    numbers = [found[1] for name in names if (found := _NUMBERED.fullmatch(name))]
    if len(numbers) == len(names) > 1:
        return f"Specialists {listed(numbers)}"
    return listed(names)


def titled(record: ImageRecord) -> ImageRecord:
    """A record whose specialists go by their titles, to be told of in sentences."""
    return replace(record, diagnosis=_titled(record.diagnosis)) if record.diagnosis else record


def _titled(diagnosis: Diagnosis) -> Diagnosis:
    called, evidence, fusion = titles(diagnosis.evidence), diagnosis.evidence, diagnosis.fusion
    opinions = tuple(
        one.model_copy(update={"specialist": called[one.specialist]}) for one in evidence.opinions
    )
    missing = tuple(_titled_missing(one, called) for one in evidence.missing)
    if fusion is not None:
        voices = tuple(
            one.model_copy(update={"source": called.get(one.source, one.source)}) for one in fusion.voices
        )
        fusion = fusion.model_copy(update={"voices": voices})
    return diagnosis.model_copy(
        update={
            "evidence": evidence.model_copy(update={"opinions": opinions, "missing": missing}),
            "fusion": fusion,
            "reasons": tuple(_in_text(one, called) for one in diagnosis.reasons),
        }
    )


def _titled_missing(missing: Missing, called: Mapping[str, str]) -> Missing:
    if not missing.source.startswith(SOURCE):
        return missing
    source = SOURCE + called[missing.source.removeprefix(SOURCE)]
    return missing.model_copy(update={"source": source, "reason": _in_text(missing.reason, called)})


def _in_text(text: str, called: Mapping[str, str]) -> str:
    """A text in which ``specialist NAME`` is what readers call it."""
    for name, title in called.items():
        text = re.sub(rf"(?:the )?specialist '?{re.escape(name)}(?![\w-])'?", title, text)
    return text
