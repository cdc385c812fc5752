"""What a run writes down: one line per case and arm, appended and synced, never rewritten."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from ..case import Answer, Evidence, Record, Task
from ..errors import ConfigurationError
from ..graphs.collaboration_fit import CollaborationFit

RUN_CARD = "run.json"
OUTCOMES = "outcomes.jsonl"
EVIDENCE = "evidence.jsonl"


class Outcome(Record):
    """What one arm said about one case, or why it said nothing."""

    task: str
    task_version: str
    case: str
    """Path of the image, relative to the data set's folder."""
    arm: str
    configuration: str
    """Hash of everything that the arm's decisions depend on."""
    condition: str = ""
    """How the case was altered (see ``evals.conditions``); empty for the case as it is."""
    group: str
    truth: tuple[str, ...]
    """True labels, or every accepted answer to a question, or the report."""
    stratum: str = ""
    """Which sort of question it is, where the data set says so: ``OPEN`` or ``CLOSED``."""
    choices: tuple[str, ...] = ()
    """Of a multiple-choice question."""
    labels: tuple[str, ...] = ()
    probabilities: Mapping[str, float] | None = None
    confidence: float | None = None
    abstained: bool = False
    text: str | None = None
    """What was answered to a question, or the report; None for closed tasks."""
    hit: bool | None = None
    """Whether an ability was shown; None of arms that decide (see ``evals.abilities``)."""
    calls: int = 0
    """Questions that the decision took of the generalist; an answer that arms share counts for each."""
    tries: int = 1
    """How often the generalist was asked until it answered, or until that was given up."""
    disputed: bool | None = None
    """Whether specialists and similar cases contradicted each other; None where that is unknown."""
    parse: str = ""
    """How a generalist's answer was read."""
    mass: float | None = None
    """Share of all that the generalist might have answered that fell on the options."""
    rule: str = ""
    """Of ``gsco``: the rule by which it decided."""
    missing: tuple[str, ...] = ()
    """Evidence that could not be had, ``source: reason``."""
    error: str | None = None
    """Class and message of what went wrong; such a case counts as a wrong answer."""
    seconds: Mapping[str, float] = Field(default_factory=dict)
    """Per step of the graph."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes the outcome the same piece of work."""
        return (self.task_version, self.case, self.arm, self.configuration)

    @property
    def right(self) -> bool:
        """Whether the arm said exactly the true labels, or showed its ability."""
        said = set(self.labels) == set(self.truth) if self.hit is None else self.hit
        return self.error is None and said

    @property
    def answer(self) -> Answer:
        """What the generalist said, of an arm in which its word is the decision."""
        return Answer(labels=self.labels, probabilities=self.probabilities, mass=self.mass)


class CaseEvidence(Record):
    """The evidence of one case, which all arms share."""

    case: str
    configuration: str
    """Hash of the panel and of what is searched."""
    sha256: str
    evidence: Evidence
    seconds: Mapping[str, float] = Field(default_factory=dict)
    """Per step of the graph."""


class NearDuplicate(Record):
    """A case whose picture looks like that of a known case."""

    case: str
    known: str
    """Image hash of the known case."""
    source: str = ""
    """Where the known case came from."""
    distance: int
    """Bits of 144 in which their fingerprints differ; see ``evals.fingerprints``."""


class Leakage(Record):
    """Which cases of the run the case bank knows already."""

    checked: int
    """Cases that were compared with the bank."""
    bank: int
    """Known cases of the task in the bank."""
    same_image: tuple[str, ...] = ()
    """Cases whose very image is in the bank."""
    same_group: tuple[str, ...] = ()
    """Cases of whose patient or group another image is in the bank."""
    near_duplicates: tuple[NearDuplicate, ...] = ()
    """Further cases that look like a known one, and which."""
    unseen: int = 0
    """Known cases without a picture, with which none could be compared by how it looks."""
    dropped: tuple[str, ...] = ()
    """Those of all these that were left out of the run."""

    @property
    def any(self) -> bool:
        """Whether there is any certain overlap."""
        return bool(self.same_image or self.same_group)

    @property
    def suspects(self) -> frozenset[str]:
        """Every case that the bank knows or may know."""
        return frozenset((*self.same_image, *self.same_group, *(one.case for one in self.near_duplicates)))


class RunCard(Record):
    """Everything that a reader must know to judge a run or to make it again."""

    format: Literal[1] = 1
    task: Task
    dataset: str
    """Name of the data set's folder."""
    dataset_sha256: str
    split: str
    cases: int
    labels: Mapping[str, int]
    """Cases per true label."""
    arms: Mapping[str, str]
    """Arms of the run in the order of a report, and the hash of each one's configuration."""
    evidence: str = ""
    """Hash of the configuration of the evidence."""
    conditions: Mapping[str, str] = Field(default_factory=dict)
    """Conditions under which arms were run too, and what is added to their configuration: which cases were
    mixed up with which, where cases get parts of others."""
    left_out: Mapping[str, str] = Field(default_factory=dict)
    """Arms that could not be run on this data set, and why."""
    configuration: Mapping[str, Mapping[str, JsonValue]]
    """The parts that arms depend on: data, panel, retrieval, generalist, gate, profile, decision, fit."""
    fit: CollaborationFit | None = None
    """What was fitted for the task, without its held-out cases; None where nothing was."""
    best_source: str = ""
    """Arm of the single source that validation cases favour: the reference that ``gsco`` has to beat."""
    best_source_by: str = ""
    """What it was chosen by."""
    leakage: Leakage
    notes: tuple[str, ...] = ()
    """What the data set's reader left out or had to decide."""
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    seed: int
    plan: Mapping[str, JsonValue] = Field(default_factory=dict)
    """What was asked for: arms, limits, profile, policies, retries."""
    started: str
    """UTC, of the first start."""

    def configuration_of(self, arm: str, condition: str = "") -> str | None:
        """Configuration of an arm's current outcomes; None where the run has no such arm or condition."""
        if arm not in self.arms or (condition and condition not in self.conditions):
            return None
        return self.arms[arm] + self.conditions.get(condition, "")

    def is_current(self, outcome: Outcome) -> bool:
        """Whether an outcome is of this very configuration."""
        return outcome.task_version == self.task.version and outcome.configuration == self.configuration_of(
            outcome.arm, outcome.condition
        )


def read_run_card(folder: Path) -> RunCard:
    """Read the card of a run's folder.

    Raises:
        ConfigurationError: it has none, or not one of this version.
    """
    try:
        return RunCard.model_validate_json((folder / RUN_CARD).read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{folder} is not the folder of a run: it has no {RUN_CARD}") from error
    except ValidationError as error:
        raise ConfigurationError(f"{RUN_CARD} of {folder} was not written by this version of gsco") from error
