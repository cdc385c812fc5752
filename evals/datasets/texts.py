"""Examples from conversations, and from the Indiana reports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from ...case import Task
from ...errors import ConfigurationError
from ...models.data.rows import SPLIT_NAMES
from ...models.generalist.conversations import TrainingConversation, read_conversations
from .entry import Conversations, OpenI
from .example import Example
from .tables import Read

_SHOWN = 3


def read_conversation_files(folder: Path, layout: Conversations, task: Task | None) -> Read:
    """Read conversations: each answer is an example, of whose question earlier turns are the context.

    For a closed task the answers are labels, separated by commas; for a report task they are reports.

    Raises:
        ConfigurationError: a file or an image is missing, or a file holds no conversations.
    """
    examples: list[Example] = []
    blind = 0
    missing = []
    for path in (path for pattern in layout.files for path in sorted(folder.glob(pattern))):
        for one in read_conversations(path):
            if one.image is None:
                blind += 1
            elif not (image := folder / layout.root / one.image).is_file():
                missing.append(one.image)
            else:
                examples += _turns(one, image, path.stem, task)
    if missing:
        raise ConfigurationError(
            f"{len(missing)} images of {folder} are missing, for example {', '.join(missing[:_SHOWN])}"
        )
    return Read(examples, [f"{blind} conversations without an image left out"] if blind else [])


def _turns(one: TrainingConversation, image: Path, stem: str, task: Task | None) -> Iterator[Example]:
    spoken = [turn for turn in one.turns if turn.speaker != "system"]
    pairs = list(zip(spoken[::2], spoken[1::2], strict=True))
    named = one.split.lower() or next(
        (word for word in re.split(r"\W|_", stem.lower()) if word in SPLIT_NAMES), ""
    )
    if named and named not in SPLIT_NAMES:
        raise ConfigurationError(f"conversation {one.id} has the split {named!r}")
    for number, (asked, said) in enumerate(pairs):
        earlier = "\n".join(turn.text for pair in pairs[:number] for turn in pair)
        common = Example(
            id=f"{stem}/{one.id}" + (f"#{number}" if len(pairs) > 1 else ""),
            images=(image,),
            context=earlier or None,
            group=one.group or one.image or one.id,
            split=SPLIT_NAMES[named] if named else "",
        )
        yield _answer_of(common, asked.text, said.text, task)


def _answer_of(common: Example, asked: str, said: str, task: Task | None) -> Example:
    from dataclasses import replace

    from ...case import TaskKind

    if task is not None and task.kind.closed:
        return replace(common, labels=tuple(part.strip() for part in said.split(",") if part.strip()))
    if task is not None and task.kind is TaskKind.REPORT:
        return replace(common, report=said)
    kind = "CLOSED" if said.strip().rstrip(".").lower() in ("yes", "no") else "OPEN"
    return replace(common, question=asked, answers=(said,), extras={"answer_type": kind})


def read_openi(folder: Path, layout: OpenI) -> Read:
    """Read studies with their XML reports: findings and impression are the report.

    Raises:
        ConfigurationError: reports or images are missing, or a file is no such report.
    """
    reports = next((folder / place for place in layout.reports if (folder / place).is_dir()), None)
    if reports is None:
        raise ConfigurationError(f"{folder} has no folder {' or '.join(layout.reports)} of reports")
    examples, missing, silent = [], [], 0
    for path in sorted(reports.glob("*.xml")):
        text, names, context = _study(path)
        images = [_picture(folder, layout, name) for name in names]
        missing += [name for name, image in zip(names, images, strict=True) if image is None]
        if not text or not names:
            silent += 1
            continue
        found = tuple(image for image in images if image is not None)
        examples.append(Example(path.stem, found, report=text, context=context or None, group=path.stem))
    if missing:
        raise ConfigurationError(
            f"{len(missing)} images of {folder} are missing, for example {', '.join(missing[:_SHOWN])}"
        )
    return Read(examples, [f"{silent} studies without a report or an image left out"] if silent else [])


def _study(path: Path) -> tuple[str, list[str], str]:
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ConfigurationError(f"{path.name} is not XML: {error}") from error
    texts = {
        (node.get("Label") or "").upper(): (node.text or "").strip() for node in root.iter("AbstractText")
    }
    report = " ".join(text for part in ("FINDINGS", "IMPRESSION") if (text := texts.get(part, "")))
    names = [name for node in root.iter("parentImage") if (name := node.get("id"))]
    return report, names, texts.get("INDICATION", "")


def _picture(folder: Path, layout: OpenI, name: str) -> Path | None:
    return next((path for place in layout.images if (path := folder / place / f"{name}.png").is_file()), None)
