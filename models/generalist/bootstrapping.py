"""Diagnosis-guided bootstrapping: a generalist describes images whose diagnosis is known.

The model is told modality and label and writes a description or a report. What it writes is kept only if
it states the label and nothing that contradicts it; the conversation that is kept asks without the label,
so that it can be learnt from.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..._support.jsonl import JsonlLog
from ..._support.progress import Progress
from ...case import Record, Task
from ...errors import ConfigurationError, GeneralistError
from .conversations import (
    Collection,
    ConversationTurn,
    TrainingConversation,
    write_collection,
    write_conversations,
)
from .hints import label_text
from .messages import message
from .prompts import article

if TYPE_CHECKING:
    from ...images import ImageStore
    from ..dataset import Dataset, Item
    from .protocol import Generalist

NO_ANSWER = "no answer"
Kind = Literal["description", "report"]
GUIDED: Mapping[Kind, str] = {
    "description": (
        "You are given {a} {modality} image. Its diagnosis is known: {labels}. Describe in two to four "
        "sentences what of it can be seen in the image, and name the diagnosis."
    ),
    "report": (
        "You are given {a} {modality} image. Its diagnosis is known: {labels}. Write a short report with "
        "the sections Findings and Impression; the impression names the diagnosis."
    ),
}
ASKED: Mapping[Kind, str] = {
    "description": "Describe this {modality} image.",
    "report": "Write a report of this {modality} image, with findings and impression.",
}
_NEGATION = re.compile(
    r"\b(no|not|without|neither|nor|never|absent|absence of|negative for|free of|rules? out|ruled out"
    r"|excludes?|rather than|instead of|unlikely|denies)\b"
)
_END = re.compile(r"[.;:!?\n]|\bbut\b|\bhowever\b")
_REACH = 60
"""A negation this many characters before a label, in the same sentence, negates it."""


class BootstrapFile(Record):
    """What a generalist wrote of one image, and whether it may be learnt from."""

    image: str
    """Path, relative to the data set's folder."""
    kind: Kind
    labels: tuple[str, ...]
    """That guided it."""
    text: str
    refused: str = ""
    """Why it may not be learnt from; empty where it may."""
    generalist: str
    """Name and version."""
    prompt: str
    """First twelve hex digits of the guiding prompt's sha256."""

    def conversation(self, dataset: str, task: Task, kind: Kind) -> TrainingConversation:
        """The same as a conversation that asks without the label."""
        question = ASKED[kind].format(modality=task.modality)
        return TrainingConversation(
            f"{dataset}/{self.image}",
            (ConversationTurn("human", question), ConversationTurn("gpt", self.text)),
            self.image,
        )


@dataclass(frozen=True)
class Bootstrapped:
    """A finished run."""

    kept: int
    refused: Mapping[str, int]
    """By reason."""


def bootstrap(
    generalist: Generalist,
    dataset: Dataset,
    task: Task,
    images: ImageStore,
    out: Path,
    *,
    split: str = "train",
    kind: Kind = "description",
) -> Bootstrapped:
    """Write conversations to ``out``, a collection beside it, and where each text came from.

    ``OUT.provenance.jsonl`` keeps every text, the refused ones with the reason; a run that was stopped goes
    on from it.

    Args:
        generalist: any.
        dataset: images with labels.
        task: whose options the labels are.
        images: where the generalist looks images up.
        out: file of the conversations, ``*.jsonl``.
        split: of the data set.
        kind: what is to be written.

    Raises:
        ConfigurationError: the task has no options, a label is not one of them, or the file of an earlier run
            is another generalist's or kind's.
        ImageError: an image cannot be read.
        GeneralistError: the generalist fails on every image of a batch.
    """
    _check(dataset, task)
    out.parent.mkdir(parents=True, exist_ok=True)
    log = JsonlLog(out.with_suffix(".provenance.jsonl"), BootstrapFile)
    name = _name(generalist)
    if others := {(one.generalist, one.kind) for one in log} - {(name, kind)}:
        raise ConfigurationError(f"{log.path} holds texts of {min(others)}; name another file")
    done = {one.image for one in log if not one.refused.startswith(NO_ANSWER)}
    due = [item for item in dataset.split(split) if _place(item, dataset) not in done]
    with Progress(f"{kind}s of {dataset.name}", len(due)) as progress:
        for start in range(0, len(due), generalist.batch_size):
            batch = due[start : start + generalist.batch_size]
            log.append(write(generalist, dataset, batch, task, images, kind=kind))
            progress.advance(len(batch))
    written = {one.image: one for one in log}
    kept = [one.conversation(dataset.name, task, kind) for one in written.values() if not one.refused]
    count = write_conversations(kept, out)
    title, folder = f"{dataset.name}-{split}-{kind}", dataset.folder.absolute()
    write_collection(Collection(title, folder, out.absolute()), count, out.with_suffix(".json"))
    return Bootstrapped(count, Counter(one.refused for one in written.values() if one.refused))


def write(
    generalist: Generalist,
    dataset: Dataset,
    items: Sequence[Item],
    task: Task,
    images: ImageStore,
    *,
    kind: Kind = "description",
    max_new_tokens: int = 256,
) -> Iterator[BootstrapFile]:
    """Let the generalist write about one batch of images; see ``bootstrap``."""
    prompts = [guided(task, _labels(item, task), kind) for item in items]
    asked = [
        [message("human", prompt, [images.put(item.path).id])]
        for item, prompt in zip(items, prompts, strict=True)
    ]
    texts = generalist.generate(asked, max_new_tokens=max_new_tokens)
    errors = [text for text in texts if isinstance(text, GeneralistError)]
    if len(errors) == len(items):
        raise errors[0]
    for item, prompt, text in zip(items, prompts, texts, strict=True):
        labels = _labels(item, task)
        failed = isinstance(text, GeneralistError)
        yield BootstrapFile(
            image=_place(item, dataset),
            kind=kind,
            labels=labels,
            text="" if failed else text,
            refused=f"{NO_ANSWER}: {text}" if failed else refusal(text, labels, task),
            generalist=_name(generalist),
            prompt=hashlib.sha256(prompt.encode()).hexdigest()[:12],
        )


def guided(task: Task, labels: Sequence[str], kind: Kind) -> str:
    """The prompt that tells modality and labels."""
    named = " and ".join(map(label_text, labels))
    return GUIDED[kind].format(a=article(task.modality), modality=task.modality, labels=named)


def refusal(text: str, labels: Sequence[str], task: Task) -> str:
    """Why a text may not be learnt from; empty where it states all labels and contradicts none.

    A label counts as stated where one of its spellings (the option, or an alias of the card) stands
    un-negated. Any other option that is stated contradicts, and so does a label that is only negated.
    """
    for label in labels:
        found = [stated for stated in _places(text, label, labels, task)]
        if not found:
            return f"does not name {label}"
        if not any(found):
            return f"denies {label}"
    for option in task.options:
        if option not in labels and any(_places(text, option, labels, task)):
            return f"names {option}"
    return ""


def _places(text: str, option: str, labels: Sequence[str], task: Task) -> Iterator[bool]:
    """For each place where an option is named, whether it is affirmed there."""
    lower = text.casefold()
    longer = [
        spelling
        for other in task.options
        if other != option
        for spelling in _spellings(other, task)
        if any(own in spelling for own in _spellings(option, task))
    ]
    hidden = [(found.start(), found.end()) for one in longer for found in _words(one).finditer(lower)]
    for spelling in _spellings(option, task):
        for found in _words(spelling).finditer(lower):
            if any(start <= found.start() and found.end() <= end for start, end in hidden):
                continue  # "tumor" within "no tumor", which is an option of its own
            before = lower[max(0, found.start() - _REACH) : found.start()]
            yield not _NEGATION.search(_END.split(before)[-1])


def _spellings(option: str, task: Task) -> tuple[str, ...]:
    return tuple(one.casefold() for one in (option, *task.aliases.get(option, ())))


def _words(spelling: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(spelling)}(?!\w)")


def _name(generalist: Generalist) -> str:
    return f"{generalist.name} {generalist.version}"


def _place(item: Item, dataset: Dataset) -> str:
    return item.path.relative_to(dataset.folder).as_posix()


def _labels(item: Item, task: Task) -> tuple[str, ...]:
    return item.labels or ((task.negative,) if task.negative else ())


def _check(dataset: Dataset, task: Task) -> None:
    if not task.kind.closed:
        raise ConfigurationError(f"task {task.name} has no options, so that no text can be checked by them")
    if unknown := set(dataset.labels) - set(task.options):
        raise ConfigurationError(f"labels {sorted(unknown)} of {dataset.name} are not options of {task.name}")
