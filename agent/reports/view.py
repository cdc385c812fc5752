"""A finished diagnosis as what a page shows of it. Pure: nothing is loaded, looked up or computed anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ...case import DISCLAIMER, Diagnosis, Evidence, Fusion, Opinion, SimilarCase, TaskKind
from ...graphs.explanation.sentences import percent
from ...graphs.explanation.titles import specialist_title

Tone = Literal["good", "doubt", "bad", "plain"]
SHOWN_CASES = 10
NONE_OF_THEM = "none of the options"
UNDECIDED = "No decision yet"


@dataclass(frozen=True)
class Bar:
    """One option and its probability."""

    label: str
    value: float
    said: bool
    """Whether it is (one of) the voice's labels."""

    @property
    def percent(self) -> str:
        """The probability, rounded as in every sentence about it."""
        return percent(self.value)


@dataclass(frozen=True)
class OpinionView:
    """What one specialist says."""

    title: str
    """Its number among the specialists of the diagnosis, in words."""
    name: str
    architecture: str
    says: str
    bars: tuple[Bar, ...]
    agrees: bool | None
    """Whether it says what the diagnosis says; None before there is one."""
    reliability: str
    """Its balanced accuracy in words, and on which images."""
    version: str
    text: str


@dataclass(frozen=True)
class ShareView:
    """What one source adds to the log-odds of the decision."""

    source: str
    title: str
    """The source as readers know it: a specialist by its number."""
    says: str
    log_odds: float
    width: float
    """Length of its bar, from 0 to 1 of the longest one."""
    note: str

    @property
    def signed(self) -> str:
        """The log-odds with their sign."""
        return f"{self.log_odds:+.1f}"


@dataclass(frozen=True)
class Neighbour:
    """One similar known case."""

    id: str
    says: str
    similarity: float
    agrees: bool | None
    source: str
    report: str
    thumbnail: bytes | None
    """A small JPEG, where the store has one."""


@dataclass(frozen=True)
class Badge:
    """A word or two that a reader must not miss."""

    words: str
    tone: Tone


_REVIEWED: dict[str, Badge] = {
    "approve": Badge("approved by a person", "good"),
    "edit": Badge("changed by a person", "good"),
    "reject": Badge("rejected by a person", "bad"),
}


@dataclass(frozen=True)
class CaseView:
    """Everything that a page shows of a diagnosis, in the order of the page."""

    case_id: str
    task: str
    title: str
    verdict: str
    """The diagnosis, or the text of an open task."""
    confidence: str
    abstained: bool
    badges: tuple[Badge, ...]
    reasons: tuple[str, ...]
    """What was certified, and why a person must decide."""
    remarks: tuple[str, ...]
    """What else was noted on the way to a decision that stands alone."""
    options: tuple[Bar, ...]
    """The decision's distribution, likeliest first; empty where there is none."""
    why: str
    """What the shares speak for and against; empty where they are not known."""
    shares: tuple[ShareView, ...]
    """Of the sources, and of the labels' prior."""
    counter_example: Neighbour | None
    """The nearest known case of the strongest rival."""
    generalist: str
    """What the generalist itself said; empty where it was not asked."""
    voices: tuple[OpinionView, ...]
    neighbours: tuple[Neighbour, ...]
    missing: tuple[str, ...]
    footer: tuple[str, ...]
    """What took part, and in which version."""
    disclaimer: str


def view_of(
    diagnosis: Diagnosis, thumbnails: Mapping[str, bytes] | None = None, *, title: str = ""
) -> CaseView:
    """Lay a diagnosis out for readers.

    Args:
        diagnosis: the result.
        thumbnails: small JPEGs by id of the similar case.
        title: what the reader calls the task; its name if empty.
    """
    said = frozenset(diagnosis.labels)
    cases = diagnosis.evidence.similar_cases[:SHOWN_CASES]
    fusion = diagnosis.fusion
    known = fusion.counter_example if fusion else None
    return CaseView(
        case_id=diagnosis.case_id,
        task=diagnosis.task,
        title=title or diagnosis.task,
        verdict=verdict(diagnosis),
        confidence=confidence_words(diagnosis),
        abstained=diagnosis.abstained,
        badges=tuple(badges(diagnosis)),
        reasons=(*filter(None, [diagnosis.promise]), *(diagnosis.reasons if diagnosis.abstained else ())),
        remarks=() if diagnosis.abstained else diagnosis.reasons,
        why=f"For {fusion.decision}, against {fusion.rival}" if fusion and fusion.voices else "",
        shares=tuple(shares(fusion, [one.specialist for one in diagnosis.evidence.opinions]))
        if fusion
        else (),
        counter_example=neighbour(known, said, (thumbnails or {}).get(known.id)) if known else None,
        generalist=generalist_words(diagnosis),
        options=bars(diagnosis.probabilities or {}, said),
        voices=voices(diagnosis.evidence, said if diagnosis.kind.closed else None),
        neighbours=tuple(neighbour(case, said, (thumbnails or {}).get(case.id)) for case in cases),
        missing=missing(diagnosis.evidence),
        footer=tuple(footer(diagnosis)),
        disclaimer=diagnosis.disclaimer,
    )


def view_of_evidence(
    evidence: Evidence, image: str, thumbnails: Mapping[str, bytes] | None = None, *, title: str = ""
) -> CaseView:
    """Lay out evidence that nobody has decided on.

    Args:
        evidence: what has arrived.
        image: id of the image that it is about.
        thumbnails: small JPEGs by id of the similar case.
        title: what the reader calls the task; its name if empty.
    """
    task = evidence.gate.task
    cases = evidence.similar_cases[:SHOWN_CASES]
    return CaseView(
        case_id=image,
        task=task,
        title=title or task,
        verdict=UNDECIDED,
        confidence="",
        abstained=False,
        badges=tuple(unusual(evidence)),
        reasons=evidence.gate.notes,
        remarks=(),
        options=(),
        why="",
        shares=(),
        counter_example=None,
        generalist="",
        voices=voices(evidence, None),
        neighbours=tuple(neighbour(case, None, (thumbnails or {}).get(case.id)) for case in cases),
        missing=missing(evidence),
        footer=(),
        disclaimer=DISCLAIMER,
    )


def verdict(diagnosis: Diagnosis) -> str:
    """Write the diagnosis, or the text of an open task."""
    if not diagnosis.kind.closed:
        return diagnosis.text or ""
    return diagnosis.label or ", ".join(diagnosis.labels) or NONE_OF_THEM


def confidence_words(diagnosis: Diagnosis) -> str:
    """The calibrated confidence without decimals, and what it has meant so far."""
    if diagnosis.confidence is None:
        return ""
    words, observed = percent(diagnosis.confidence), diagnosis.observed
    if observed is None:
        return words
    return f"{words}; of {observed.n} cases this sure, {observed.right} were right"


def decision_words(diagnosis: Diagnosis) -> str:
    """The diagnosis and how sure it is or who decided, in a line of a list."""
    review = diagnosis.review
    if review is not None and review.decision.action != "approve":
        return f"{verdict(diagnosis)}, {_REVIEWED[review.decision.action].words}"
    mark = "?" if diagnosis.abstained else ""
    sure = "" if diagnosis.confidence is None else f" {percent(diagnosis.confidence)}"
    return f"{verdict(diagnosis)}{mark}{sure}"


def reliability_words(opinion: Opinion) -> str:
    """How good a specialist is known to be: on test images where they were measured, else on validation."""
    if opinion.held_out is not None:
        return f"balanced accuracy {percent(opinion.held_out)} on test images"
    if opinion.reliability is not None:
        return f"balanced accuracy {percent(opinion.reliability)} on validation images, which chose it"
    return ""


def generalist_words(diagnosis: Diagnosis) -> str:
    """What the generalist itself said, one voice among the others."""
    answer = diagnosis.generalist_answer
    if answer is None:
        return ""
    said = ", ".join(answer.labels) or NONE_OF_THEM
    given = answer.probabilities or {}
    sure = [given[label] for label in answer.labels if label in given]
    return f"{said} ({percent(min(sure))})" if sure else said


def shares(fusion: Fusion, specialists: Sequence[str] = ()) -> Iterator[ShareView]:
    """What each source adds to the log-odds of the decision, and what the labels' prior adds.

    Args:
        fusion: how the sources became one distribution.
        specialists: names in the order in which they are numbered.
    """
    titles = {name: specialist_title(number) for number, name in enumerate(specialists, start=1)}
    rows = [
        (one.source, ", ".join(one.labels) or NONE_OF_THEM, one.log_odds, one.note) for one in fusion.voices
    ]
    if fusion.prior:
        rows.append(("how frequent the labels are", "", fusion.prior, ""))
    longest = max((abs(row[2]) for row in rows), default=0.0) or 1.0
    for source, says, log_odds, note in rows:
        title = titles.get(source, source)
        yield ShareView(source, title, says, log_odds, abs(log_odds) / longest, note)


def bars(probabilities: Mapping[str, float], said: frozenset[str]) -> tuple[Bar, ...]:
    """Order options by probability, the likeliest first."""
    ranked = sorted(probabilities.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(Bar(label, value, label in said) for label, value in ranked)


def missing(evidence: Evidence) -> tuple[str, ...]:
    """Say what could not be had, and why."""
    return tuple(f"{item.source}: {item.reason}" for item in evidence.missing)


def voices(evidence: Evidence, said: frozenset[str] | None) -> tuple[OpinionView, ...]:
    """Lay out all opinions beside what the diagnosis says, if it says anything."""
    return tuple(
        voice(opinion, said, specialist_title(number))
        for number, opinion in enumerate(evidence.opinions, start=1)
    )


def voice(opinion: Opinion, said: frozenset[str] | None, title: str) -> OpinionView:
    """Lay out one opinion."""
    labels = frozenset(opinion.labels)
    return OpinionView(
        title=title,
        name=opinion.specialist,
        architecture=opinion.architecture,
        says=", ".join(opinion.labels) or ("" if opinion.text else NONE_OF_THEM),
        bars=bars(opinion.probabilities, labels),
        agrees=None if said is None else labels == said,
        reliability=reliability_words(opinion),
        version=opinion.version,
        text=opinion.text or "",
    )


def neighbour(case: SimilarCase, said: frozenset[str] | None, thumbnail: bytes | None) -> Neighbour:
    """Lay out one similar case beside what the diagnosis says, if it says anything."""
    return Neighbour(
        id=case.id,
        says=", ".join(case.labels) or NONE_OF_THEM,
        similarity=case.similarity,
        agrees=None if said is None else frozenset(case.labels) == said,
        source=case.source,
        report=case.report or "",
        thumbnail=thumbnail,
    )


def badges(diagnosis: Diagnosis) -> Iterator[Badge]:
    """Say whether a person must decide, who agrees with whom, and what is out of the ordinary."""
    if diagnosis.review is not None:
        yield _REVIEWED[diagnosis.review.decision.action]
    elif diagnosis.abstained:
        yield Badge("a person must decide", "bad")
    yield from _agreement(diagnosis)
    yield from unusual(diagnosis.evidence)


def unusual(evidence: Evidence) -> Iterator[Badge]:
    """Say what is out of the ordinary before anybody decides."""
    if evidence.gate.familiar is False:
        yield Badge("unlike all known cases", "bad")
    if evidence.missing:
        yield Badge("evidence missing", "doubt")


def _agreement(diagnosis: Diagnosis) -> Iterator[Badge]:
    conflict, voices = diagnosis.conflict, [o for o in diagnosis.evidence.opinions if o.probabilities]
    # They were asked about what was proposed, and a person may have decided otherwise.
    review = diagnosis.review
    proposed = " with the proposal" if review and review.decision.action != "approve" else ""
    if conflict.generalist_against_panel:
        yield Badge("generalist against specialists", "bad")
    if conflict.specialists_disagree:
        yield Badge("specialists disagree", "doubt")
    if conflict.panel_share is not None and not conflict.any:
        number = "the specialist agrees" if len(voices) == 1 else f"all {len(voices)} specialists agree"
        yield Badge(number + proposed, "plain" if proposed else "good")
    if conflict.similar_share is not None:
        tone: Tone = (
            "good" if conflict.similar_share >= 0.8 else "plain" if conflict.similar_share >= 0.5 else "doubt"
        )
        words = f"{100 * conflict.similar_share:.0f}% of similar cases agree"
        yield Badge(words + proposed, "plain" if proposed else tone)


def footer(diagnosis: Diagnosis) -> Iterator[str]:
    """Name what took part, so that the same can be had again."""
    if diagnosis.generalist:
        yield f"generalist {diagnosis.generalist}, prompt {diagnosis.profile}"
    if diagnosis.kind in (TaskKind.DIAGNOSIS, TaskKind.MULTILABEL):
        yield f"answer read from: {diagnosis.parse}"
    if diagnosis.versions:
        yield ", ".join(f"{name} {value}" for name, value in sorted(diagnosis.versions.items()))
