"""``gsco train generalist``: from data sets to a finished model folder, in stages that can be interrupted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...._support.progress import Progress
from ....case import Task
from ....errors import ConfigurationError
from ....tasks import builtin_tasks, load_task
from ..prompts import SYSTEM
from .architecture import build_model, save_generalist
from .batches import ConversationWriter
from .config import GeneralistTraining, Source
from .cross_fitting import PanelEvidence
from .evaluation import Evaluation, line
from .example import Material
from .initialisation import start_from
from .language import train_jointly, train_language
from .mixture import Mixture, training_texts
from .pixels import Images, read_images
from .real_evidence import RealEvidence
from .renamed_labels import DIAGNOSES, MODALITIES, NEUTRAL
from .teacher import train_teacher
from .tokenizer import train_tokenizer
from .views import predictions
from .vision import (
    CHECKPOINT,
    adopt_tower,
    load_classifier,
    load_tower,
    tower_from,
    train_vision,
    vision_finished,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENIZER_SCENES = 800


def train_generalist(config: GeneralistTraining) -> Path:
    """Train a generalist, or go on where an earlier call was interrupted.

    A finished run is recognised and not repeated.

    Args:
        config: see ``load_config``.

    Returns:
        The model folder.

    Raises:
        ConfigurationError: data or configuration are wrong, or the work or output folder belongs to
            another configuration.
        SpecialistError: the package with the teacher's weights is not installed.
    """
    if _finished(config):
        Progress("", 1).line(f"{config.out} is finished; remove it to train again")
        return config.out
    if config.threads:
        torch.set_num_threads(config.threads)
    tasks = [_task(source) for source in config.sources]
    images = read_images(config)
    for task, one in zip(tasks, images["train"], strict=True):
        _check_fit(task, one)
    if not vision_finished(config):
        if config.tower is None:
            train_vision(config, images, train_teacher(config, images))
        else:
            adopt_tower(config, images)
    mixtures = _mixtures(config, tasks, images)
    tokenizer = _tokenizer(config, mixtures["train"])
    writer = ConversationWriter(tokenizer, config.architecture.image_tokens)
    model = build_model(config.architecture, tokenizer, config.seed)
    load_tower(model, config.work / CHECKPOINT)
    started = None if config.start is None else start_from(model, tokenizer, config.start)
    model.to(config.place)  # pyright: ignore[reportArgumentType]
    evaluation = Evaluation(config, mixtures["val"], writer, images["val"])
    for train in (train_language, train_jointly):
        train(config, model, mixtures["train"], writer, images["train"], lambda: line(evaluation(model)))
    scores = evaluation(model.eval())
    card = _card(config, images, scores, started)
    save_generalist(model, tokenizer, config.architecture, config.out, card)
    return config.out


def _finished(config: GeneralistTraining) -> bool:
    path = config.out / "card.json"
    if not path.is_file():
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["training"]["fingerprint"]
    except (ValueError, KeyError, TypeError):
        found = None
    if found != config.fingerprint("joint"):
        raise ConfigurationError(
            f"{config.out} holds a model of another configuration; remove it, or name another folder as `out`"
        )
    return True


def _task(source: Source) -> Task:
    if source.task.endswith((".toml", ".json")):
        return load_task(Path(source.task))
    tasks = builtin_tasks()
    if source.task not in tasks:
        raise ConfigurationError(
            f"no built-in task {source.task!r}; choose one of {sorted(tasks)}, or name a card"
        )
    return tasks[source.task]


def _mixtures(
    config: GeneralistTraining,
    tasks: Sequence[Task],
    images: Mapping[str, list[Images]],
) -> dict[str, Mixture]:
    views = _views(config, images)
    evidence = _evidence(config, images)
    mixtures = {}
    for split, sources in images.items():
        materials = [
            Material(tasks[i], one.labels, one.targets, views[i], evidence[split][i])
            for i, one in enumerate(sources)
        ]
        mixtures[split] = Mixture(config, materials)
    return mixtures


def _check_fit(task: Task, images: Images) -> None:
    if set(images.labels) != set(task.options):
        raise ConfigurationError(
            f"task {task.name} has the options {sorted(task.options)}, "
            f"its data set the labels {list(images.labels)}"
        )


def _views(config: GeneralistTraining, images: Mapping[str, list[Images]]) -> list[np.ndarray]:
    """Per source, how often the tower sees each label as each other on validation images.

    Not only the tower but the decoder too learns its training images by heart, so that a correction for the
    tower's part alone would be too small.
    """
    with torch.inference_mode():
        predicted = predictions(load_classifier(config, images), images["val"])
    views = []
    for one, found in zip(images["val"], predicted, strict=True):
        counts = np.full((len(one.labels), len(one.labels)), 0.25)
        np.add.at(counts, (one.targets, found), 1.0)
        views.append(counts / counts.sum(1, keepdims=True))
    return views


def _evidence(
    config: GeneralistTraining, images: Mapping[str, list[Images]]
) -> dict[str, list[RealEvidence | None]]:
    """Training images are judged by twins that do not know them, validation images by the panel itself."""
    settings = config.evidence
    if not settings.real or settings.panel is None:
        return {split: [None] * len(sources) for split, sources in images.items()}
    found: dict[str, list[RealEvidence | None]] = {split: [] for split in images}
    for i, train in enumerate(images["train"]):
        opinions = PanelEvidence(config, settings.panel, train)
        for split, sources in images.items():
            found[split].append(opinions.kept(sources[i], split))
    return found


def _tokenizer(config: GeneralistTraining, mixture: Mixture) -> PreTrainedTokenizerFast:
    words = [f" {word}, '{word}',{word}" for word in (*NEUTRAL, *DIAGNOSES, *MODALITIES)] * 20
    texts = training_texts(mixture, TOKENIZER_SCENES)
    turns = [SYSTEM, *(f"{role}\n" for role in ("system", "user", "assistant", "tool"))] * 200
    return train_tokenizer([*texts, *words, *turns], config.architecture.vocabulary)


def _card(
    config: GeneralistTraining,
    images: Mapping[str, list[Images]],
    scores: object,
    started: str | None,
) -> dict[str, object]:
    from .... import __version__

    return {
        "name": config.name,
        "kind": "generalist",
        "converses": False,
        "architecture": "InternVLForConditionalGeneration",
        "sizes": config.architecture.model_dump(mode="json"),
        "licence": "Apache-2.0",
        "data": [
            {
                "task": one.source.name,
                "licence": one.source.licence,
                "sha256": one.sha256,
                "images": {split: len(images[split][i]) for split in images},
            }
            for i, one in enumerate(images["train"])
        ],
        "profiles": sorted(name for name, weight in config.language.profiles.items() if weight),
        "training": {
            "fingerprint": config.fingerprint("joint"),
            "gsco": __version__,
            "started_from": started,
            "tower_from": tower_from(config),
            "configuration": config.model_dump(
                mode="json",
                exclude={"out", "work", "data", "start", "tower", "device", "workers", "threads", "at_once"},
            ),
        },
        "validation_accuracy": scores,
        "note": "A small default to start with and to test against; not for clinical use.",
    }
