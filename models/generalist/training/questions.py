"""Short questions with known answers: from records of a file, or from what a data set's labels show."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....case import Case, ImageRef, Task, TaskKind
from ....errors import ConfigurationError
from ...dataset import Dataset, Item, read_dataset
from ..prompts import PRESENCE, Profile, answer_text
from .config import GeneralistTraining, QuestionSource, Source
from .evidence import NO_HASH, Random
from .example import ImageView, Scene, TrainingPrompt
from .pixels import MARGIN, Images, decoded

NO_CASE = Case(id="training", images=(ImageRef(sha256=NO_HASH, width=1, height=1),))
MODALITY = ("Which imaging modality is this?", "What kind of image is this?", "What modality was used?")
ORGAN = ("Which organ is shown?", "Which part of the body is shown?", "What organ system is pictured?")


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question with its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class QuestionSet:
    """Images with questions about each."""

    images: Images
    asked: tuple[tuple[AnsweredQuestion, ...], ...]
    """Per image, at least one."""
    modality: str
    foreign: tuple[int, ...] = ()
    """Images that no task of the sources fits."""
    weight: float = 1.0


def read_questions(config: GeneralistTraining) -> list[QuestionSet]:
    """Read the training part of every question set, decoding images into the work folder.

    Raises:
        ConfigurationError: a file cannot be read, or an image is missing.
    """
    return [_from_file(config, one) if one.file else _from_labels(config, one) for one in config.questions]


def draw_questions(
    random: Random, known: QuestionSet, source: int, count: int, profile: Profile
) -> list[TrainingPrompt]:
    """Draw questions about one image, all different as far as there are so many.

    Args:
        random: source of the random numbers.
        known: the images and questions.
        source: number of the images among all.
        count: how many.
        profile: words the question.
    """
    image = int(random.integers(len(known.images)))
    asked = known.asked[image]
    places = [*random.permutation(len(asked)), *random.integers(len(asked), size=count)][:count]
    return [
        _prompt(profile, known.modality, asked[place].question, asked[place].answer, ImageView(source, image))
        for place in places
    ]


def ask_about(random: Random, scene: Scene, label: str, organ: str, profile: Profile) -> TrainingPrompt:
    """Draw a question about a task's image: modality, organ, finding or presence."""
    modality = scene.task.modality
    asked = label if random.random() < 0.5 else str(random.choice(scene.names))
    kinds = [
        (str(random.choice(MODALITY)), modality),
        (str(random.choice(["What is the diagnosis?", "What is the finding?"])), label),
        (f"Is this {asked}?", PRESENCE[0] if asked == label else PRESENCE[1]),
        *([(str(random.choice(ORGAN)), organ)] if organ else []),
    ]
    question, answer = kinds[int(random.integers(len(kinds)))]
    # A prompt that names the modality must not be the only one that is asked for it.
    told = modality if question not in MODALITY and random.random() < 0.5 else "medical"
    return _prompt(profile, told, question, answer, scene.view)


def _prompt(profile: Profile, modality: str, question: str, answer: str, view: ImageView) -> TrainingPrompt:
    task = Task(name="question", kind=TaskKind.QUESTION, modality=modality)
    text = profile.open_text(task, NO_CASE.model_copy(update={"question": question}))
    return TrainingPrompt(text, answer_text((answer,)), (), view, "question")


def _from_file(config: GeneralistTraining, given: QuestionSource) -> QuestionSet:
    assert given.file is not None
    path, folder = config.data / given.file, config.data / given.folder
    try:
        content = path.read_bytes()
        records: list[dict[str, Any]] = json.loads(content)
        found: dict[str, list[AnsweredQuestion]] = {}
        for record in records:
            asked = AnsweredQuestion(str(record["question"]).strip(), str(record["answer"]).strip().lower())
            found.setdefault(str(record["image_name"]), []).append(asked)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} is not a JSON list with `question`, `answer` and `image_name`: {error}"
        ) from error
    images = _images(
        config, given, [folder / name for name in sorted(found)], hashlib.sha256(content).hexdigest()
    )
    return QuestionSet(
        images, tuple(tuple(found[name]) for name in sorted(found)), given.modality, weight=given.weight
    )


def _from_labels(config: GeneralistTraining, given: QuestionSource) -> QuestionSet:
    dataset = read_dataset(config.data / given.folder, seed=config.seed)
    items = dataset.split("train")
    unknown = sorted(set(dataset.labels) - set(given.shows))
    if unknown:
        raise ConfigurationError(f"questions on {given.folder}: `shows` says nothing of the labels {unknown}")
    modalities = sorted({modality for modality, _ in given.shows.values()})

    def questions_about(label: str) -> tuple[AnsweredQuestion, ...]:
        modality, organ = given.shows[label]
        presence = [
            AnsweredQuestion(f"Is this {other}?", PRESENCE[0] if other == modality else PRESENCE[1])
            for other in modalities
        ]
        known = [
            *(AnsweredQuestion(text, modality) for text in MODALITY),
            *(AnsweredQuestion(text, organ) for text in ORGAN),
        ]
        return (*known, *presence)

    images = _images(config, given, [item.path for item in items], dataset.sha256)
    foreign = tuple(index for index, item in enumerate(items) if item.labels[0] in given.foreign)
    return QuestionSet(
        images,
        tuple(questions_about(item.labels[0]) for item in items),
        given.modality,
        foreign,
        given.weight,
    )


def _images(config: GeneralistTraining, given: QuestionSource, paths: list[Path], sha256: str) -> Images:
    name = given.folder.name
    items = tuple(Item(path, (name,), path.name, "train") for path in paths)
    dataset = Dataset(config.data / given.folder, items, (name,), sha256)
    side = round(config.architecture.image_size * MARGIN)
    pixels = decoded(dataset, "train", side, config.work / "pixels")
    targets = np.zeros(len(items), dtype=np.int64)
    return Images(
        Source(folder=given.folder, task=name, licence=given.licence), (name,), items, targets, pixels, sha256
    )
