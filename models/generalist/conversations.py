"""Instruction data in the conversation format of InternVL and MedDr, in and out.

A file is a JSON list or JSON lines of ``{"id", "image", "conversations": [{"from", "value"}, …]}``, where
turns alternate between ``human`` and ``gpt`` and the first human turn holds ``<image>``. A collection is a
JSON object that names files: ``{name: {"root", "annotation", "repeat_time", "length", …}}``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ...disk import replacing
from ...errors import ConfigurationError
from .messages import neutralise

if TYPE_CHECKING:
    from ...case import Task
    from ..dataset import Dataset
    from .prompts import Profile

IMAGE = "<image>"
Speaker = Literal["system", "human", "gpt"]
_SPEAKERS: tuple[Speaker, ...] = get_args(Speaker)


@dataclass(frozen=True)
class ConversationTurn:
    """What one side says, without the image's place and without control tokens."""

    speaker: Speaker
    text: str


@dataclass(frozen=True)
class TrainingConversation:
    """A conversation about an image, or about none."""

    id: str
    turns: tuple[ConversationTurn, ...]
    image: str | None = None
    """Path of the image, relative to the collection's root."""
    group: str = ""
    """Patient or study, where the file names one (``subject_id``, else ``study_id`` or ``group``)."""
    split: str = ""
    """As the file names it; empty where it does not."""


@dataclass(frozen=True)
class Collection:
    """One entry of a collection file."""

    name: str
    root: Path
    """Folder that the images' paths are relative to."""
    annotation: Path
    repeats: float = 1.0
    """How often its conversations are seen in one epoch; below one, a part of them."""

    def conversations(self) -> list[TrainingConversation]:
        """Read its file; see ``read_conversations``."""
        return read_conversations(self.annotation)


def read_conversations(path: Path) -> list[TrainingConversation]:
    """Read a file.

    Raises:
        ConfigurationError: it is missing, or an entry is not a conversation; the error says which and why.
    """
    return [_conversation(entry, f"{path.name}, {place}") for place, entry in _entries(path)]


def write_conversations(conversations: Iterable[TrainingConversation], path: Path) -> int:
    """Write JSON lines, all of them or nothing; returns how many."""
    count = 0
    with replacing(path) as fresh, fresh.open("w", encoding="utf-8") as file:
        for one in conversations:
            file.write(json.dumps(_record(one), ensure_ascii=False) + "\n")
            count += 1
    return count


def read_collections(path: Path) -> list[Collection]:
    """Read a collection file; relative places count from the file's folder.

    Raises:
        ConfigurationError: it is missing or no JSON object, or an entry lacks a field or a file.
    """
    content = _json(path)
    if not isinstance(content, dict) or not content:
        raise ConfigurationError(f"{path.name} names no collections: it must be a JSON object of them")
    return [_collection(name, entry, path) for name, entry in content.items()]


def write_collection(collection: Collection, length: int, path: Path) -> None:
    """Write a collection file with one entry; its places are written relative to the file."""
    entry = {
        "root": os.path.relpath(collection.root, path.absolute().parent),
        "annotation": os.path.relpath(collection.annotation, path.absolute().parent),
        "data_augment": False,
        "repeat_time": collection.repeats,
        "length": length,
    }
    path.write_text(
        json.dumps({collection.name: entry}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def diagnosis_conversations(
    dataset: Dataset, task: Task, profile: Profile, split: str = "train"
) -> Iterator[TrainingConversation]:
    """Make one conversation per image of a split: the profile's question, and the label as the answer.

    Raises:
        ConfigurationError: the task is not a diagnosis, or a label is none of its options.
    """
    from .hints import answer_text

    if not task.kind.closed:
        raise ConfigurationError(f"task {task.name} has no options to answer with")
    if unknown := set(dataset.labels) - set(task.options):
        raise ConfigurationError(f"labels {sorted(unknown)} of {dataset.name} are not options of {task.name}")
    question = profile.closed_text(task).strip()
    for item in dataset.split(split):
        labels = item.labels or ((task.negative,) if task.negative else ())
        turns = (ConversationTurn("human", question), ConversationTurn("gpt", answer_text(labels)))
        place = item.path.relative_to(dataset.folder).as_posix()
        yield TrainingConversation(f"{dataset.name}/{place}", turns, place)


def _entries(path: Path) -> Iterator[tuple[str, object]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    if text.lstrip().startswith("["):
        yield from (
            (f"entry {number}", entry) for number, entry in enumerate(_parsed(text, path.name), start=1)
        )
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield f"line {number}", _parsed(line, f"{path.name}, line {number}")


def _json(path: Path) -> object:
    try:
        return _parsed(path.read_text(encoding="utf-8-sig"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{place} is not JSON: {error}") from error


def _conversation(entry: object, place: str) -> TrainingConversation:
    if not isinstance(entry, dict):
        raise ConfigurationError(f"{place} is not a conversation: an object with `conversations` is needed")
    image, given = entry.get("image"), entry.get("conversations")
    if image is not None and not isinstance(image, str):
        raise ConfigurationError(f"{place}: `image` must be one path; several images are not supported")
    if not isinstance(given, list) or not given:
        raise ConfigurationError(f"{place}: `conversations` must be a list of turns")
    turns = tuple(_turn(turn, f"{place}, turn {number}") for number, turn in enumerate(given, start=1))
    _check_order([turn.speaker for turn in turns], place)
    _check_image(given, image, place)
    group = next((entry[name] for name in ("subject_id", "study_id", "group") if entry.get(name)), "")
    return TrainingConversation(
        str(entry.get("id", place)), turns, image, str(group), str(entry.get("split") or "")
    )


def _turn(turn: object, place: str) -> ConversationTurn:
    if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
        raise ConfigurationError(f"{place} needs `from` and a text as `value`")
    speaker: Speaker | None = next((one for one in _SPEAKERS if one == turn.get("from")), None)
    if speaker is None:
        raise ConfigurationError(f"{place} is from {turn.get('from')!r}; use one of {list(_SPEAKERS)}")
    return ConversationTurn(speaker, neutralise(turn["value"].replace(IMAGE, "")).strip())


def _check_order(speakers: Sequence[str], place: str) -> None:
    spoken = speakers[1:] if speakers[0] == "system" else speakers
    wanted = [("human", "gpt")[number % 2] for number in range(len(spoken))]
    if list(spoken) != wanted or len(spoken) % 2 or not spoken:
        raise ConfigurationError(
            f"{place}: turns must alternate from human to gpt, and gpt has the last word"
        )


def _check_image(given: Sequence[Mapping[str, str]], image: str | None, place: str) -> None:
    counts = [turn["value"].count(IMAGE) for turn in given]
    if image is None and sum(counts):
        raise ConfigurationError(f"{place} has the token {IMAGE} and no `image`")
    if sum(counts) > 1:
        raise ConfigurationError(f"{place} has the token {IMAGE} {sum(counts)} times; one image is supported")


def _collection(name: str, entry: object, path: Path) -> Collection:
    place = f"{path.name}, {name}"
    if not isinstance(entry, dict):
        raise ConfigurationError(f"{place} must be an object with `root` and `annotation`")
    if missing := [field for field in ("root", "annotation") if not isinstance(entry.get(field), str)]:
        raise ConfigurationError(f"{place} lacks {' and '.join(f'`{field}`' for field in missing)}")
    repeats = entry.get("repeat_time", 1)
    if isinstance(repeats, bool) or not isinstance(repeats, int | float) or repeats <= 0:
        raise ConfigurationError(f"{place}: `repeat_time` must be a number above zero, not {repeats!r}")
    annotation = path.parent / entry["annotation"]
    if not annotation.is_file():
        raise ConfigurationError(f"{place}: there is no file {entry['annotation']}")
    return Collection(name, path.parent / entry["root"], annotation, float(repeats))


def _record(one: TrainingConversation) -> dict[str, object]:
    turns = [{"from": turn.speaker, "value": turn.text} for turn in one.turns]
    if one.image is not None:
        first = next(turn for turn in turns if turn["from"] == "human")
        first["value"] = f"{IMAGE}\n{first['value']}"
    record: dict[str, object] = {"id": one.id}
    record |= {name: value for name, value in (("group", one.group), ("split", one.split)) if value}
    return record | ({} if one.image is None else {"image": one.image}) | {"conversations": turns}
