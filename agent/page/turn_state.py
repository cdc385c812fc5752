"""A turn as it unfolds: from events to what the page has to show so far. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...case import Diagnosis, Evidence, GateReport
from ...graphs.events import Event, EvidenceArrived, Final, ReviewRequested, ToolFinished, ToolStarted

BEGINNING = "Reading the question"
_DOING = {
    "classify": "Asking the specialists",
    "retrieve_cases": "Looking for similar cases",
    "diagnose": "Diagnosing",
    "report": "Writing a report",
    "describe": "Looking at the image",
    "list_tasks": "Looking up what can be asked",
}


@dataclass(frozen=True)
class TurnState:
    """A turn so far."""

    words: str = ""
    """What the generalist has said."""
    doing: str = BEGINNING
    """What it is busy with, in a few words."""
    gathered: tuple[EvidenceArrived, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    notes: tuple[str, ...] = ()
    review: ReviewRequested | None = None
    """What a person must decide on before it goes on."""

    def after(self, event: Event) -> TurnState:
        """What it is once this has happened too."""
        if isinstance(event, EvidenceArrived):
            return replace(self, gathered=(*self.gathered, event), doing=_arrived(event))
        if isinstance(event, ToolStarted):
            return replace(self, doing=_DOING.get(event.name, f"Working on {event.name}"))
        if isinstance(event, ToolFinished):
            found = () if event.diagnosis is None else (event.diagnosis,)
            return replace(self, diagnoses=(*self.diagnoses, *found), doing="Weighing the evidence")
        if isinstance(event, ReviewRequested):
            return replace(self, review=event, diagnoses=_with(self.diagnoses, event.diagnosis), doing="")
        if isinstance(event, Final):
            # The whole text repeats the pieces.
            words = event.text or self.words
            return replace(self, words=words, diagnoses=event.diagnoses, notes=event.notes, doing="")
        return replace(self, words=self.words + event.text, doing="Answering")

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The latest diagnosis; None where there is none yet."""
        return self.diagnoses[-1] if self.diagnoses else None

    @property
    def evidence(self) -> tuple[str, Evidence] | None:
        """The latest image that evidence came of, and all of it for its task; None where none came yet."""
        if not self.gathered:
            return None
        last = self.gathered[-1]
        same = [one for one in self.gathered if (one.image, one.task) == (last.image, last.task)]
        gate = next((one.gate for one in reversed(same) if one.gate), GateReport(task=last.task))
        return last.image, Evidence(
            gate=gate,
            opinions=tuple({o.specialist: o for one in same for o in one.opinions}.values()),
            similar_cases=tuple({c.id: c for one in same for c in one.similar_cases}.values()),
            missing=tuple(dict.fromkeys(lost for one in same for lost in one.missing)),
        )


def _arrived(event: EvidenceArrived) -> str:
    if event.opinions:
        return "A specialist has answered" if len(event.opinions) == 1 else "The specialists have answered"
    return "Similar cases are found" if event.similar_cases else "The image is checked"


def _with(diagnoses: tuple[Diagnosis, ...], asked: Diagnosis) -> tuple[Diagnosis, ...]:
    """The diagnosis that is asked about stands last."""
    return (*(one for one in diagnoses if (one.case_id, one.task) != (asked.case_id, asked.task)), asked)
