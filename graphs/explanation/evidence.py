"""Sentences about what a decision rests on: specialists, similar cases, contributions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ...case import Diagnosis, Missing, Opinion, SimilarCase, Task, Voice
from .sentences import listed, named, percent, plain, sentence
from .titles import together

MOST_CASES = 5
"""So many similar cases are told of where no number was asked for."""
COUNTS = 0.05
"""A smaller share of the log-odds is not told of."""


def supported(diagnosis: Diagnosis) -> tuple[str, ...]:
    """The labels that the evidence led to, which a person may have replaced."""
    edited = diagnosis.review is not None and diagnosis.review.decision.action == "edit"
    return diagnosis.review.proposed if edited and diagnosis.review else diagnosis.labels


def rejected(diagnosis: Diagnosis) -> bool:
    """Whether a person rejected what was proposed."""
    return diagnosis.review is not None and diagnosis.review.decision.action == "reject"


def ranked(diagnosis: Diagnosis) -> list[tuple[str, float]]:
    """The options with their probability, the likeliest first."""
    return sorted((diagnosis.probabilities or {}).items(), key=lambda pair: (-pair[1], pair[0]))


def votes(diagnosis: Diagnosis) -> dict[tuple[str, ...], list[str]]:
    """Which specialists named which labels, the most frequent first. Draft reports are no votes."""
    said: dict[tuple[str, ...], list[str]] = {}
    for opinion in diagnosis.evidence.opinions:
        if opinion.labels or opinion.probabilities:
            said.setdefault(opinion.labels, []).append(opinion.specialist)
    return dict(sorted(said.items(), key=lambda pair: -len(pair[1])))


def specialists(diagnosis: Diagnosis, names: Sequence[str] = (), labels: Sequence[str] = ()) -> str:
    """What each specialist says, or those that are asked about.

    Args:
        diagnosis: with the evidence.
        names: of the specialists that are asked about; empty for all.
        labels: only who said one of these; empty for all.
    """
    opinions = [one for one in diagnosis.evidence.opinions if not names or one.specialist in names]
    absent = [one for one in absences(diagnosis) if not names or _name(one) in names]
    if labels and not names:
        said = [one.specialist for one in opinions if set(one.labels) & set(labels)]
        others = [one for one in opinions if one.specialist not in said]
        first = (
            f"{len(said)} of {len(opinions)} specialists say {listed(labels, 'or')}: {together(said)}."
            if said
            else f"None of the {len(opinions)} specialists says {listed(labels, 'or')}."
        )
        return " ".join([first, *map(opinion_sentence, others)])
    if not opinions and not absent:
        return "No specialist was asked about it." if not names else f"{together(names)} was not asked."
    return " ".join([*map(opinion_sentence, opinions), *map(absence_sentence, absent)])


def opinion_sentence(opinion: Opinion) -> str:
    """What one specialist says."""
    if opinion.text and not opinion.labels:
        return f"{opinion.specialist} drafts: {plain(opinion.text)}"
    shares = [percent(opinion.probabilities[label]) for label in opinion.labels if opinion.probabilities]
    sure = f" with {listed(shares)}" if shares else ""
    return f"{opinion.specialist} says {named(opinion.labels)}{sure}."


def absences(diagnosis: Diagnosis) -> list[Missing]:
    """The specialists that gave no opinion."""
    return [one for one in diagnosis.evidence.missing if one.source.startswith("specialist")]


def absence_sentence(missing: Missing) -> str:
    """That a specialist gave no opinion, and why."""
    return sentence(f"{_name(missing) or 'A specialist'} gave no opinion: {plain(missing.reason)}")


def panel(diagnosis: Diagnosis) -> str:
    """How the specialists voted; empty where none did."""
    said = votes(diagnosis)
    total = sum(map(len, said.values()))
    if not total:
        return ""
    if len(said) == 1:
        [(labels, names)] = said.items()
        if total == 1:
            return f"The only specialist, {names[0]}, says {named(labels)}."
        return f"All {total} specialists say {named(labels)}."
    parts = [f"{_verb(names)} {named(labels)} ({together(names)})" for labels, names in said.items()]
    return f"Of the {total} specialists {listed(parts)}."


def unanimous(diagnosis: Diagnosis) -> str:
    """That all specialists agree with the decision; empty where one does not, or there are not several."""
    said = votes(diagnosis)
    total = sum(map(len, said.values()))
    if total < 2 or any(set(labels) != set(diagnosis.labels) for labels in said):
        return ""
    return f"All {total} specialists agree with the decision, {named(diagnosis.labels)}."


def similar(diagnosis: Diagnosis, count: int | None = None) -> str:
    """The most similar known cases, and what all of the retrieved ones were."""
    cases = diagnosis.evidence.similar_cases
    if not cases:
        return _no_cases(diagnosis)
    shown = cases[: min(max(1, count or MOST_CASES), len(cases))]
    told = [f"{named(case.labels)} (similarity {case.similarity:.2f})" for case in shown]
    first = (
        f"The most similar known case is {told[0]}."
        if len(told) == 1
        else f"The {len(told)} most similar known cases are, the closest first: {listed(told)}."
    )
    return " ".join(filter(None, [first, retrieved(cases) if len(cases) > 1 else ""]))


def retrieved(cases: Sequence[SimilarCase]) -> str:
    """How many of the retrieved cases carry which labels."""
    counts = Counter(case.labels for case in cases)
    if len(counts) == 1:
        return f"All {len(cases)} retrieved cases are {named(cases[0].labels)}."
    parts = [
        f"{count} {'is' if count == 1 else 'are'} {named(labels)}" for labels, count in counts.most_common()
    ]
    return f"Of the {len(cases)} retrieved cases {listed(parts)}."


def labelled(diagnosis: Diagnosis, labels: Sequence[str]) -> str:
    """How many of the retrieved cases carry given labels."""
    cases = diagnosis.evidence.similar_cases
    carrying = [case for case in cases if set(case.labels) & set(labels)]
    if not cases:
        return _no_cases(diagnosis)
    if not carrying:
        return f"None of the {len(cases)} retrieved cases is {listed(labels, 'or')}."
    return (
        f"{len(carrying)} of the {len(cases)} retrieved cases {'is' if len(carrying) == 1 else 'are'} "
        f"{listed(labels, 'or')}, the closest with similarity {carrying[0].similarity:.2f}."
    )


def counter_example(diagnosis: Diagnosis, wanted: Sequence[str] = ()) -> str:
    """The nearest known case of another label than the decision's.

    Args:
        diagnosis: with the evidence.
        wanted: of which labels it must be; empty for any other than the decision's.
    """
    decided = set(diagnosis.labels)
    labels = set(wanted) - decided
    cases = list(diagnosis.evidence.similar_cases)
    fits = [case for case in cases if (set(case.labels) & labels if labels else set(case.labels) != decided)]
    held = diagnosis.fusion.counter_example if diagnosis.fusion else None
    if held is not None and (set(held.labels) & labels if labels else set(held.labels) != decided):
        fits = fits or [held]
    if fits:
        first = (
            f"The closest known case with another label is {named(fits[0].labels)}, "
            f"with similarity {fits[0].similarity:.2f}."
        )
        own = next((case for case in cases if set(case.labels) == decided), None)
        if own is None:
            return first
        return f"{first} The closest {named(own.labels)} case has similarity {own.similarity:.2f}."
    if not cases:
        return _no_cases(diagnosis)
    other = f" of {listed(sorted(labels), 'or')}" if labels else " with another label"
    return f"There is no counter-example on record: no case{other} was retrieved. {retrieved(cases)}"


def contributions(diagnosis: Diagnosis) -> str:
    """Which sources count for the decision and which against it; empty where it is not known."""
    fusion = diagnosis.fusion
    if fusion is None or not fusion.rival:
        return ""
    told = [voice for voice in fusion.voices if voice.weight and abs(voice.log_odds) >= COUNTS]
    for_it = sorted((one for one in told if one.log_odds > 0), key=lambda one: -one.log_odds)
    against = sorted((one for one in told if one.log_odds < 0), key=lambda one: one.log_odds)
    which = f"{plain(fusion.decision)} rather than {plain(fusion.rival)}"
    parts = [f"In favour of {which}: {_pulls(for_it)}."] if for_it else []
    parts += [f"Against {which}: {_pulls(against)}."] if against else []
    return " ".join([*parts, "The numbers are shares of the log-odds."]) if parts else ""


def unheard(diagnosis: Diagnosis) -> Iterator[str]:
    """Sources that were heard and do not count, and why."""
    for voice in diagnosis.fusion.voices if diagnosis.fusion else ():
        if not voice.weight and voice.note:
            yield sentence(f"{_voice(voice)} does not count: {plain(voice.note)}")


def _verb(names: Sequence[str]) -> str:
    return "1 says" if len(names) == 1 else f"{len(names)} say"


def disagreement(diagnosis: Diagnosis) -> str:
    """Who says otherwise than the decision."""
    decided = set(diagnosis.labels)
    against = {labels: names for labels, names in votes(diagnosis).items() if set(labels) != decided}
    total = sum(map(len, votes(diagnosis).values()))
    what, verb = ("rejected proposal", "was") if rejected(diagnosis) else ("decision", "is")
    parts = [
        f"{together(names)} {'says' if len(names) == 1 else 'say'} {named(labels)}"
        for labels, names in against.items()
    ]
    said = []
    if total:
        said.append(
            f"The {what} {verb} {named(diagnosis.labels)}, but {listed(parts)}."
            if parts
            else f"All {total} specialists agree with the {what}, {named(diagnosis.labels)}."
        )
    else:
        said.append("No specialist gave an opinion.")
    own = diagnosis.generalist_answer
    if own is not None and own.labels and set(own.labels) != decided:
        said.append(f"The generalist's own answer is {named(own.labels)}.")
    elif own is not None and own.labels:
        said.append(f"The generalist's own answer is {named(own.labels)} too.")
    cases = diagnosis.evidence.similar_cases
    if cases:
        said.append(retrieved(cases))
    return " ".join(said)


def accuracy(diagnosis: Diagnosis) -> str:
    """How often such answers were right, and how reliable each specialist is."""
    said = []
    if diagnosis.observed is not None and not rejected(diagnosis):
        said.append(observed(diagnosis))
    measured = []
    for opinion in diagnosis.evidence.opinions:
        if opinion.held_out is not None:
            measured.append(f"{opinion.specialist} {percent(opinion.held_out)}")
        elif opinion.reliability is not None:
            measured.append(f"{opinion.specialist} {percent(opinion.reliability)}")
    if measured:
        said.append(f"The balanced accuracy of the specialists on labelled images was: {listed(measured)}.")
    if diagnosis.promise:
        said.append(sentence(plain(diagnosis.promise)))
    return " ".join(said) or "How often such answers are right was not measured for this task."


def observed(diagnosis: Diagnosis) -> str:
    """What answers about this sure have meant; empty where it was not measured."""
    seen = diagnosis.observed
    if seen is None or not seen.n:
        return ""
    return f"Of {seen.n} measured answers about this sure {seen.right} were right."


def beside(task: Task | None, diagnosis: Diagnosis) -> str:
    """The options that the task knows."""
    options = task.options if task else tuple(diagnosis.probabilities or ())
    return f"The options of this task are {listed(options)}; nothing else is weighed." if options else ""


def _pulls(voices: Sequence[Voice]) -> str:
    return listed([f"{_voice(one)} ({one.log_odds:+.1f})" for one in voices])


def _voice(voice: Voice) -> str:
    return {"similar_cases": "the similar cases", "generalist": "the generalist"}.get(
        voice.kind, voice.source
    )


def _name(missing: Missing) -> str:
    return missing.source.partition(":")[2]


def _no_cases(diagnosis: Diagnosis) -> str:
    lost = next((one for one in diagnosis.evidence.missing if one.source == "retrieval"), None)
    return sentence(f"No similar case was retrieved{f': {plain(lost.reason)}' if lost else ''}")
