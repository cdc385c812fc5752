"""Prompt profiles: how a task, a case and its evidence are put into words.

Two profiles share one frame, *task → options → context → similar cases → specialists → answer
format*. Whatever the arms have in common comes first, so that image and question are one prefix
that a runtime computes once, and the hints come last.

``paper``
    The reference's structure: hints are plain label lists.
``calibrated``
    The same frame with short numbers. Similar cases are summed up as *label count/k mean-similarity*,
    most frequent first; each specialist says *label probability reliability*, most reliable first.
``exemplars``
    The same, and the images of up to four similar cases after the case's own, for models that take several.

Missing evidence is not put into words: no model was trained on such a sentence, and ``Evidence.missing``
tells the reader. All text that comes from a case, a store or a card is neutralised, and free text is quoted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import AfterValidator, Field

from ...case import Case, ImageRef, Opinion, SimilarCase, Task, TaskKind
from ...errors import ConfigurationError, TaskError
from .hints import (
    PRESENCE,
    Hint,
    answer_text,
    counted,
    found_in,
    hint_text,
    label_text,
    presence_of,
    weighed,
    yes_or_no,
)
from .messages import message, neutralise, quote

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

__all__ = [
    "PRESENCE",
    "PROFILES",
    "SYSTEM",
    "Exemplar",
    "Profile",
    "ProfileName",
    "answer_text",
    "article",
    "label_text",
    "prompt_profile",
]

SYSTEM = "Answer the questions."
"""The system message that MedDr was trained with."""

_DIAGNOSIS = (
    " You are a helpful medical assistant. {instruction} You are given {images}."
    " The possible diagnoses are: {quoted}.{context}{hints} The response should only contain one option. "
)
_MULTILABEL = (
    "You are a helpful medical assistant. {instruction} You are given {images}."
    " The possible option are:{listed}.{context}{hints}"
    " The response should only contain one or more options.{negative}"
)
_PRESENCE = (
    " You are a helpful medical assistant. {instruction} You are given {images}."
    " Is {option} present?{context}{hints} The response should only contain yes or no. "
)
_QUESTION = (
    "You are a helpful medical assistant. You are required to answer the following question based on the"
    " images about {modality}. Your answer should be concise. {question}{context}{hints}"
)
_REPORT = (
    "You are a helpful medical assistant. Your task is report generation. You are given {images} and you are"
    " required to generate a summary report about the image.{context}{hints}"
)


class Exemplar(NamedTuple):
    """A similar case that is shown as an image."""

    image: str
    """Id of the image."""
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Profile:
    """A way of wording. Equal ``hash`` means equal text for equal input."""

    name: str
    numbers: bool
    """Whether hints carry probabilities, reliabilities and similarities."""
    reports: int = 3
    """Similar cases whose report text is quoted, most similar first."""
    report_characters: int = 400
    """Longer quoted reports are cut at a word."""
    exemplars: int = 0
    """So many similar cases of a closed task are shown as images, in turn the nearest of each label."""

    @cached_property
    def hash(self) -> str:
        """Eight hex digits over the texts of a fixed made-up case: wording and number formats alike."""
        return hashlib.sha256("\n".join(_probe(self)).encode()).hexdigest()[:8]

    def closed_messages(
        self,
        task: Task,
        case: Case,
        opinions: Sequence[Opinion] = (),
        similar_cases: Sequence[SimilarCase] = (),
        exemplars: Sequence[Exemplar] = (),
    ) -> list[BaseMessage]:
        """Ask for a diagnosis among the task's options. Evidence that is not given is not mentioned."""
        text = self.closed_text(
            task, opinions, similar_cases, exemplars, context=case.context, images=len(case.images)
        )
        return _conversation(case, text, exemplars)

    def presence_messages(
        self,
        task: Task,
        case: Case,
        option: str,
        opinions: Sequence[Opinion] = (),
        similar_cases: Sequence[SimilarCase] = (),
        exemplars: Sequence[Exemplar] = (),
    ) -> list[BaseMessage]:
        """Ask whether one option of a multi-label task is present; the options are ``PRESENCE``."""
        arm = (opinions, similar_cases, exemplars)
        text = self.presence_text(task, option, *arm, context=case.context, images=len(case.images))
        return _conversation(case, text, exemplars)

    def open_messages(
        self,
        task: Task,
        case: Case,
        opinions: Sequence[Opinion] = (),
        similar_cases: Sequence[SimilarCase] = (),
    ) -> list[BaseMessage]:
        """Ask for an answer or a report.

        Raises:
            TaskError: the task asks a question and the case has none, or the task is a closed one.
        """
        return _conversation(case, self.open_text(task, case, opinions, similar_cases))

    def closed_text(
        self,
        task: Task,
        opinions: Sequence[Opinion] = (),
        similar_cases: Sequence[SimilarCase] = (),
        exemplars: Sequence[Exemplar] = (),
        *,
        context: str | None = None,
        images: int = 1,
    ) -> str:
        """The user's text of ``closed_messages``."""
        options = [label_text(option) for option in task.options]
        single = task.kind is not TaskKind.MULTILABEL
        return (_DIAGNOSIS if single else _MULTILABEL).format(
            instruction=_instruction(task),
            images=_images(task.modality, images),
            quoted=", ".join(f"'{option}'" for option in options),
            listed=",".join(options),
            negative=_negative(task),
            context=_context(context),
            hints=self._diagnoses(hint_text(opinions), found_in(similar_cases))
            + _exemplar_text([",".join(map(label_text, one.labels)) for one in exemplars]),
        )

    def presence_text(
        self,
        task: Task,
        option: str,
        opinions: Sequence[Opinion] = (),
        similar_cases: Sequence[SimilarCase] = (),
        exemplars: Sequence[Exemplar] = (),
        *,
        context: str | None = None,
        images: int = 1,
    ) -> str:
        """The user's text of ``presence_messages``; the evidence is reduced to this option's yes and no."""
        return _PRESENCE.format(
            instruction=_instruction(task),
            images=_images(task.modality, images),
            option=f"'{label_text(option)}'",
            context=_context(context),
            hints=self._diagnoses(
                [presence_of(option, hint) for hint in hint_text(opinions)],
                [Hint((yes_or_no(option in case.labels),), (case.similarity,)) for case in similar_cases],
            )
            + _exemplar_text([yes_or_no(option in one.labels) for one in exemplars]),
        )

    def open_text(
        self,
        task: Task,
        case: Case,
        opinions: Sequence[Opinion] = (),
        similar_cases: Sequence[SimilarCase] = (),
    ) -> str:
        """The user's text of ``open_messages``."""
        hints = self._reports(opinions, similar_cases) if task.kind is TaskKind.REPORT else ""
        hints += self._diagnoses(hint_text(opinions), found_in(similar_cases))
        context = _context(case.context)
        if task.kind is TaskKind.REPORT:
            return _REPORT.format(
                images=_images(task.modality, len(case.images)), context=context, hints=hints
            )
        if task.kind is not TaskKind.QUESTION:
            raise TaskError(f"task {task.name} has options; ask it with closed_messages")
        if not (case.question and case.question.strip()):
            raise TaskError(f"task {task.name} answers a question, and the case has none; set Case.question")
        question = " ".join(neutralise(case.question).split())
        return _QUESTION.format(
            modality=neutralise(task.modality), question=question, context=context, hints=hints
        )

    def _diagnoses(self, said: Sequence[Hint], found: Sequence[Hint]) -> str:
        """Similar cases, then specialists, as in the reference."""
        similar = counted(found) if self.numbers else ",".join(hint.label for hint in found)
        specialists = weighed(said) if self.numbers else ",".join(hint.label for hint in said)
        of_cases, of_models = (
            (" (share, similarity)", " (probability, reliability)") if self.numbers else ("", "")
        )
        text = f" The diagnoses of the most similar cases{of_cases} are {similar}." if found else ""
        if said:
            text += f" The diagnoses of the specialist models{of_models} are {specialists}."
        return text

    def _reports(self, opinions: Sequence[Opinion], similar_cases: Sequence[SimilarCase]) -> str:
        nearest = sorted(similar_cases, key=lambda case: -case.similarity)
        found = [case.report for case in nearest if case.report][: self.reports]
        drafts = [opinion.text for opinion in opinions if opinion.text]
        text = ""
        if found:
            text += f" The reports of the most similar cases are {self._quoted(found)}."
        if drafts:
            text += f" The draft reports of the specialist models are {self._quoted(drafts)}."
        return text

    def _quoted(self, reports: Sequence[str]) -> str:
        return ", ".join(quote(report, self.report_characters) for report in reports)


def _instruction(task: Task) -> str:
    return " ".join(neutralise(task.instruction or "Your task is disease diagnosis.").split())


def _negative(task: Task) -> str:
    if task.negative is None:
        return ""
    return f" Only if no other options are available, you can choose '{label_text(task.negative)}'."


def _context(context: str | None) -> str:
    return f" The clinical context is {quote(context)}." if context and context.strip() else ""


def _images(modality: str, count: int) -> str:
    noun = " ".join(neutralise(modality).split())
    noun = noun if noun.casefold().endswith("image") else f"{noun} image"
    return f"{article(noun)} {noun}" if count == 1 else f"{count} {noun}s"


def article(noun: str) -> str:
    """``a`` or ``an``, by sound: an ultrasound, an MRI, an X-ray, a CT, a US."""
    first = noun.split()[0]
    if first.casefold().startswith("x-") or (len(first) > 1 and first.isupper()):
        return "an" if first[0] in "AEFHILMNORSXx" else "a"
    like_you = first.casefold().startswith(("uni", "eu", "uro"))
    return "an" if first[0].casefold() in "aeiou" and not like_you else "a"


def _exemplar_text(answers: Sequence[str]) -> str:
    """What the images after the case's own are, by their answers."""
    if len(answers) < 2:
        return f" The last image is of a similar case; its diagnosis is {answers[0]}." if answers else ""
    return (
        f" The last {len(answers)} images are of similar cases; their diagnoses are, in the same order, "
        f"{', '.join(answers)}."
    )


def _conversation(case: Case, text: str, exemplars: Sequence[Exemplar] = ()) -> list[BaseMessage]:
    images = [*(image.id for image in case.images), *(one.image for one in exemplars)]
    return [message("system", SYSTEM), message("human", text, images)]


def _probe(profile: Profile) -> list[str]:
    """Every kind of text that a profile makes, for a made-up case."""
    case = Case(
        id="probe",
        images=(ImageRef(sha256="0" * 64, width=1, height=1),),
        question="Is it?",
        context='A "b".',
    )
    opinions = [
        Opinion(
            specialist=name,
            architecture="x",
            labels=("b",),
            text="Draft.",
            probabilities={"a": 1 - p, "b": p},
            reliability=reliability,
        )
        for name, p, reliability in (("s", 0.625, 0.5), ("t", 0.75, 0.905), ("u", 0.51, None))
    ]
    similar = [
        SimilarCase(
            id=label,
            sha256="0" * 64,
            task="probe",
            labels=(label,),
            similarity=s,
            encoder="x",
            report="r " * 300,
        )
        for label, s in (("a", 0.875), ("b", 0.5), ("b", 0.25))
    ]
    shown = [Exemplar("img", case.labels) for case in similar][: profile.exemplars]
    texts = [SYSTEM]
    for kind in TaskKind:
        options, negative = (("a", "b"), "a") if kind.closed else ((), None)
        task = Task(name="probe", kind=kind, modality="MRI", options=options, negative=negative)
        for arm in (((), ()), (opinions, ()), ((), similar), (opinions, similar)):
            if kind.closed:
                texts.append(profile.closed_text(task, *arm, shown, context=case.context))
                texts.append(profile.presence_text(task, "b", *arm, shown, images=2))
            else:
                texts.append(profile.open_text(task, case, *arm))
    return texts


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("paper", numbers=False),
        Profile("calibrated", numbers=True),
        Profile("exemplars", numbers=True, exemplars=4),
    )
}
"""All that there are; the first is the default."""


def prompt_profile(name: str) -> Profile:
    """The profile of a name.

    Raises:
        ConfigurationError: there is none.
    """
    if name not in PROFILES:
        raise ConfigurationError(
            f"no prompt profile {name!r}; GSCO_PROFILE and profile take {', '.join(PROFILES)}"
        )
    return PROFILES[name]


def _known(name: str) -> str:
    if name not in PROFILES:
        raise ValueError(f"unknown profile; available: {', '.join(PROFILES)}")
    return name


ProfileName = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": list(PROFILES)})]
"""Name of a profile, in a request or a plan."""
