"""Accuracy on validation prompts by family and task, beside what a vote over the evidence says."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from .. import scoring
from ..prompts import PROFILES
from .batches import ConversationWriter
from .config import Family, GeneralistTraining
from .example import TrainingPrompt
from .features import Features
from .mixture import Mixture
from .pixels import Images

if TYPE_CHECKING:
    from transformers import InternVLForConditionalGeneration

ARMS: tuple[Family, ...] = ("plain", "moed", "rad", "both")
Scores = dict[str, dict[str, float]]


class Evaluation:
    """Asks the model fixed validation prompts.

    Args:
        config: prompts per task and family.
        mixture: over validation images, faithful.
        writer: of token ids.
        sources: validation images.
    """

    def __init__(
        self,
        config: GeneralistTraining,
        mixture: Mixture,
        writer: ConversationWriter,
        sources: Sequence[Images],
    ) -> None:
        self._config, self._writer, self._sources = config, writer, sources
        self._prompts = _prompts(config, mixture, sources)

    def __call__(self, model: InternVLForConditionalGeneration) -> Scores:
        """Accuracy by arm (``both``, ``both, vote`` …), then by task; ``mean`` over tasks."""
        rights: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
        for prompt, chosen in zip(self._prompts, self._answers(model), strict=True):
            task = self._sources[prompt.view.source].source.name
            rights[prompt.family, task].append(chosen == prompt.answer)
            if prompt.family != "plain":
                rights[f"{prompt.family}, vote", task].append(vote(prompt) == prompt.answer)
        scores: Scores = defaultdict(dict)
        for (arm, task), values in rights.items():
            scores[arm][task] = float(np.mean(values))
        for tasks in scores.values():
            tasks["mean"] = float(np.mean(list(tasks.values())))
        return dict(scores)

    @torch.inference_mode()
    def _answers(self, model: InternVLForConditionalGeneration) -> list[str]:
        features = Features(model, self._sources, self._config.architecture.image_size, 1)
        inner = model.model
        requests = []
        for prompt, ids in zip(self._prompts, self._writer.questions(self._prompts), strict=True):
            seen = inner.multi_modal_projector(features.of(prompt.view, 0)[None])[0]
            options = tuple(map(tuple, self._writer.answers(prompt.options)))
            requests.append(scoring.OptionPrompt(scoring.EncodedPrompt(tuple(ids), seen), options))
        placeholder = int(model.config.image_token_id)
        scores = scoring.score_options(model, requests, placeholder)
        return [p.options[int(np.argmax(values))] for p, values in zip(self._prompts, scores, strict=True)]


def vote(prompt: TrainingPrompt) -> str:
    """The label of most specialists or, without any, of most similar cases; of equals the first."""
    voices = prompt.opinions or prompt.similar
    return Counter(label for voice in voices for label in voice.labels).most_common(1)[0][0]


def line(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Scores in one line: each arm's mean, and the generalist alone by task."""
    means = " ".join(f"{arm} {100 * tasks['mean']:.0f}%" for arm, tasks in scores.items())
    alone = " ".join(
        f"{task} {100 * value:.0f}%" for task, value in scores.get("plain", {}).items() if task != "mean"
    )
    return f"validation {means} | plain: {alone}"


def _prompts(config: GeneralistTraining, mixture: Mixture, sources: Sequence[Images]) -> list[TrainingPrompt]:
    profiles = [PROFILES[name] for name, weight in config.language.profiles.items() if weight]
    prompts = []
    for number, images in enumerate(sources):
        random = np.random.default_rng([config.seed, 5, number])
        chosen = random.permutation(len(images))[: config.evaluation_prompts]
        prompts += [
            mixture.about(random, family, profiles[place % len(profiles)], number, int(image))
            for family in ARMS
            for place, image in enumerate(chosen)
        ]
    return prompts
