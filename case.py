"""The shared vocabulary: what goes in (a case, a task) and what comes out (a diagnosis).

All records are frozen pydantic models. None of them holds image bytes or embeddings: an image is
an ``ImageRef`` and its pixels stay in the image store.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

_MARKUP = '<>&"`*[]{}|#~$\\'
"""Signs that HTML or Markdown reads as its own."""
DISCLAIMER = "Research software. Not a medical device; not for clinical use."

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class Record(BaseModel):
    """Base of every record: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageRef(Record):
    """A reference to an image in the image store; never its pixels."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Hash of the decoded, upright 8-bit pixels (see ``images.pixel_hash``), so that one picture
    has one name whichever lossless format it came in."""
    mime: str = "image/png"
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    repairs: tuple[str, ...] = ()
    """What was wrong in its file and was put right or left out while it was read, in plain sentences."""

    @property
    def id(self) -> str:
        """Short name that tools and models use in place of a path."""
        return f"img-{self.sha256[:12]}"


class Case(Record):
    """One patient's question: images by reference, and what is asked about them."""

    id: str
    """The caller's own name for the case. Use a pseudonym: it is written to results."""
    images: tuple[ImageRef, ...]
    question: str | None = None
    """Free question, for tasks of kind ``question_answering``."""
    context: str | None = None
    """Clinical context given to the generalist. Treated as data, never as instructions."""
    group: str | None = None
    """Patient or study pseudonym; used only to keep retrieval from finding the same patient."""

    @model_validator(mode="after")
    def _has_an_image(self) -> Self:
        if not self.images:
            raise ValueError("a case needs at least one image")
        return self


class TaskKind(StrEnum):
    """The kind of answer that a task asks for."""

    DIAGNOSIS = "diagnosis"
    """Exactly one of the options."""
    MULTILABEL = "multilabel_diagnosis"
    """Any subset of the options, with one probability for each."""
    QUESTION = "question_answering"
    """A short text that answers ``Case.question``."""
    REPORT = "report"
    """A findings-and-impression text."""

    @property
    def closed(self) -> bool:
        """Whether the answer is chosen from options."""
        return self in (TaskKind.DIAGNOSIS, TaskKind.MULTILABEL)


class Task(Record):
    """A task card: the question about an image, its possible answers, and the modality."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    kind: TaskKind = TaskKind.DIAGNOSIS
    title: str = ""
    modality: str
    """Wording used in prompts, for example ``chest X-ray``."""
    options: tuple[str, ...] = ()
    """Labels, in the order of the card; empty for open tasks."""
    aliases: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Other spellings of an option that a generalist may answer with."""
    negative: str | None = None
    """For multi-label tasks: the option that excludes all others (``Normal``)."""
    instruction: str | None = None
    """Replaces the prompt profile's instruction sentence."""
    abstain_below: Probability = 0.5
    """A diagnosis whose confidence is lower is marked as abstained."""
    licence: str = ""
    source: str = ""
    version: str = "1"

    @model_validator(mode="after")
    def _options_fit_the_kind(self) -> Self:
        if self.kind.closed and len(self.options) < 2:
            raise ValueError(f"a task of kind {self.kind} needs at least two options")
        if not self.kind.closed and self.options:
            raise ValueError(f"a task of kind {self.kind} takes no options")
        if len({option.casefold() for option in self.options}) != len(self.options):
            raise ValueError("options must differ from each other (case is ignored)")
        if any("," in option or "\n" in option or not option.strip() for option in self.options):
            raise ValueError("an option must not be empty or hold a comma or a line break")
        unknown = [
            name for name in (*self.aliases, *filter(None, [self.negative])) if name not in self.options
        ]
        if unknown:
            raise ValueError(f"aliases and negative must name options; these are not options: {unknown}")
        return self


class Opinion(Record):
    """One specialist's opinion on a case."""

    specialist: str
    architecture: str
    labels: tuple[str, ...] = ()
    """The decision, after calibration and threshold: one label, or any number for multi-label."""
    probabilities: Mapping[str, Probability] = Field(default_factory=dict)
    """Calibrated, one per option; sums to one for single-label tasks. Empty for a draft report."""
    reliability: Probability | None = None
    """Balanced accuracy on its validation split."""
    held_out: Probability | None = None
    """The same on images that were not used to train or choose it; None if not measured."""
    text: str | None = None
    """A draft report, for report specialists."""
    version: str = ""
    """First twelve hex digits of the weights' sha256."""


class SimilarCase(Record):
    """A known case found by retrieval, with its source."""

    id: str
    sha256: str
    task: str
    labels: tuple[str, ...]
    similarity: Annotated[float, Field(ge=-1.001, le=1.001)]
    """Cosine similarity in the encoder's space."""
    encoder: str
    source: str = ""
    report: str | None = None
    """Report text of that case. Quoted to the generalist as data."""


class Missing(Record):
    """A piece of evidence that was not available. A diagnosis made without it says so."""

    source: str
    """``specialist:NAME``, ``retrieval`` or ``generalist``."""
    reason: str


class GateReport(Record):
    """How well the image fits the task, checked before any model is asked."""

    task: str
    task_chosen: bool = False
    """True if no task was named and the gate chose it."""
    task_probability: Probability | None = None
    """Share of the nearest known cases, over all tasks, that belong to this task."""
    nearest_similarity: float | None = None
    """Cosine similarity to the nearest known case of this task."""
    similarity_floor: float | None = None
    """Similarity that 99 % of held-out images of this task reach; lower is far from all known."""
    familiar: bool | None = None
    """False if the image is far from all known cases of the task; None if unknown."""
    notes: tuple[str, ...] = ()


class Evidence(Record):
    """All evidence on a case, with its provenance, as it was given to the generalist."""

    gate: GateReport
    opinions: tuple[Opinion, ...] = ()
    similar_cases: tuple[SimilarCase, ...] = ()
    missing: tuple[Missing, ...] = ()


class Answer(Record):
    """What the generalist returned, before review."""

    labels: tuple[str, ...] = ()
    probabilities: Mapping[str, Probability] | None = None
    """None if the server gives no log-probabilities."""
    text: str = ""
    parse: Literal["probabilities", "exact", "alias", "text"] = "probabilities"
    """How ``labels`` was found: from the distribution, from the text, or not applicable."""
    mass: Probability | None = None
    """Share of all that the generalist might have answered that fell on the options. Little of it means that
    the question was put in a way that this model does not answer. None where there are no probabilities."""
    left_out: Annotated[int, Field(ge=0)] = 0
    """Number of similar cases, the farthest, that were left out of a prompt that was too long."""


class Conflict(Record):
    """How far generalist, specialists and similar cases agree."""

    generalist_against_panel: bool = False
    """The generalist's label is not the panel's most frequent one."""
    specialists_disagree: bool = False
    panel_share: Probability | None = None
    """Share of the specialists that chose the final label."""
    similar_share: Probability | None = None
    """Share of the similar cases that carry the final label."""

    @property
    def any(self) -> bool:
        """Whether a person should look at the disagreement."""
        return self.generalist_against_panel or self.specialists_disagree


VoiceKind = Literal["specialist", "similar_cases", "generalist"]
DecisionRule = Literal["fused", "adaptive", "generalist"]


class Voice(Record):
    """One source of a decision: its answer, its weight, and its share of the result."""

    source: str
    """A specialist's name, ``similar cases`` or ``generalist``."""
    kind: VoiceKind
    labels: tuple[str, ...] = ()
    probabilities: Mapping[str, Probability] = Field(default_factory=dict)
    weight: float = 0.0
    """In the log-linear pool; 0: it is heard and does not count."""
    log_odds: float = 0.0
    """Its share of the log-odds of the decision against its strongest rival; positive is for the decision."""
    note: str = ""
    """Why it does not count, or counts for less."""


class Fusion(Record):
    """How the sources became the decision. The log-odds of all voices and of the prior add up."""

    rule: DecisionRule
    fitted: bool
    """Whether the weights were fitted on labelled cases of this task; else they follow from the cards."""
    decision: str = ""
    """What the log-odds speak for: the label; of a multi-label task the presence or absence of the least
    certain option, such as ``AMD`` or ``no AMD``."""
    rival: str = ""
    """And against what: the strongest other label, or the opposite."""
    log_odds: float = 0.0
    """Of the decision against the rival, all together."""
    prior: float = 0.0
    """Share of the labels' prior."""
    voices: tuple[Voice, ...] = ()
    asked: bool = False
    """Whether the generalist was asked."""
    counter_example: SimilarCase | None = None
    """The nearest known case of the rival label."""
    notes: tuple[str, ...] = ()
    """What a reader must know: not measured, made for other parts, not asked and why."""


class ObservedAccuracy(Record):
    """How often answers with about this confidence were right, on cases not used to fit the decision."""

    n: int
    right: int


def _plain_name(name: str) -> str:
    """Refuse what could pass for markup, hide text or break a line where the name is shown."""
    # Cc, Cf, Co, Cs: control, invisible and bidirectional characters; Zl, Zp: breaks of lines.
    if any(
        unicodedata.category(sign)[0] == "C" or unicodedata.category(sign) in ("Zl", "Zp") for sign in name
    ):
        raise ValueError("a name holds no control characters")
    if any(sign in _MARKUP for sign in name):
        raise ValueError(f"a name holds none of {_MARKUP}")
    return name


class ReviewDecision(Record):
    """A reviewer's decision on a diagnosis: approve, edit or reject."""

    action: Literal["approve", "edit", "reject"]
    reviewer: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain_name)]
    """Who decides: a name or a pseudonym that the institution knows, without markup or control characters."""
    reason: Annotated[str, Field(max_length=2000)] = ""
    labels: tuple[str, ...] = ()
    """For ``edit``: the right labels."""

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if self.action != "approve" and not self.reason.strip():
            raise ValueError(f"a reason is needed to {self.action} a diagnosis")
        if (self.action == "edit") != bool(self.labels):
            raise ValueError("labels are needed to edit a diagnosis, and allowed only then")
        return self


class Review(Record):
    """A reviewer's decision as it is recorded."""

    decision: ReviewDecision
    at: AwareDatetime
    proposed: tuple[str, ...] = ()
    """The labels that the reviewer was shown."""
    asked: tuple[str, ...] = ()
    """Why a person was asked."""


class Diagnosis(Record):
    """The result: a label or a text, its confidence, the evidence, and the models that made it."""

    case_id: str
    task: str
    kind: TaskKind
    label: str | None = None
    """The diagnosis; for multi-label tasks the labels joined by a comma; None for open tasks."""
    labels: tuple[str, ...] = ()
    probabilities: Mapping[str, Probability] | None = None
    confidence: Probability | None = None
    """Probability that the decision is right, all labels of a multi-label task together; None if unknown."""
    observed: ObservedAccuracy | None = None
    """How often decisions with about this confidence were right; None if not measured."""
    abstained: bool = False
    """True if a person must decide by the policy; ``label`` is then only a suggestion."""
    promise: str | None = None
    """The certificate in words, where an error limit is set: what share of the answers given alone is wrong
    at most, or why nothing can be promised."""
    reasons: tuple[str, ...] = ()
    """Why it abstained or what a reader must know, in plain words."""
    conflict: Conflict = Conflict()
    evidence: Evidence
    fusion: Fusion | None = None
    """How the sources became the decision; None for open tasks."""
    generalist_answer: Answer | None = None
    """The generalist's own answer, one source among the others; None if it was not asked."""
    text: str | None = None
    """Answer or report, for open tasks."""
    generalist: str = ""
    profile: str = ""
    """Prompt profile and its hash, ``calibrated@1f2e3d4c``."""
    parse: str = "probabilities"
    timings: Mapping[str, float] = Field(default_factory=dict)
    """Seconds per step of the graph."""
    versions: Mapping[str, str] = Field(default_factory=dict)
    review: Review | None = None
    """A person's decision on it; None if none was asked for or none has been made."""
    image: str | None = None
    """The file that the case came from, in records of the command line; never set otherwise, since a path
    may name a patient."""
    disclaimer: str = DISCLAIMER

    def _repr_html_(self) -> str:
        """Show the diagnosis in a notebook."""
        from .notebook import diagnosis_html

        return diagnosis_html(self)

    @property
    def answers_alone(self) -> bool:
        """Whether no person has to decide."""
        return not self.abstained
