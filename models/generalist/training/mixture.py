"""The mixture of training prompts: scene number *n* is the same in every run with the same seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ....case import Opinion, SimilarCase, Task
from ..prompts import PRESENCE, PROFILES, Profile, answer_text
from .config import Family, GeneralistTraining, Language
from .consultations import draw_consultation
from .evidence import Random, draw_circumstances, draw_neighbours, draw_opinions
from .example import ImageView, Material, Scene, TrainingPrompt
from .renamed_labels import DIAGNOSES, MODALITIES, NEUTRAL

BARE: Family = "plain"
"""The family that needs the labels' own names, since the image alone must tell them."""
HINTED: tuple[Family, ...] = ("plain", "moed", "rad", "both")
"""Families whose wording is the same up to the hints."""
MOST_BETWEEN = 0.6
"""So many of a label's scenes at most show something between two images."""

_T = TypeVar("_T")


class Mixture:
    """Makes prompts.

    Args:
        config: families, profiles and evidence.
        materials: one per source, of one split.
    """

    def __init__(self, config: GeneralistTraining, materials: Sequence[Material]) -> None:
        self._config, self._settings, self._materials = config, config.evidence, tuple(materials)
        names, self._profile_chances = _chances(config.language.profiles)
        self._profiles = [PROFILES[name] for name in names]
        sizes = np.array([len(material.targets) for material in materials]) ** config.language.source_balance
        self._source_chances = sizes / sizes.sum()
        self._of_label = [
            [np.flatnonzero(m.targets == label) for label in range(len(m.labels))] for m in materials
        ]

    def prompts(self, number: int) -> tuple[TrainingPrompt, ...]:
        """Return the prompts of that number: several about one image with the same options.

        They differ in family, profile and evidence, so their beginnings are alike and are computed once.
        """
        random = np.random.default_rng([self._config.seed, 2, number])
        scene = self._scene(random)
        families = _draw_families(random, self._config.language, scene.own)
        if families[0] == "consultation":
            return (self._consultation(random, scene),)
        clear = self._config.language.clear
        if clear and "plain" in families and random.random() < clear:
            seen = replace(scene, view=ImageView(scene.source, scene.image))
            return (self._prompt(random, seen, "plain", self._profile(random)),)
        return tuple(self._prompt(random, scene, family, self._profile(random)) for family in families)

    def about(
        self, random: Random, family: Family, profile: Profile, source: int, image: int
    ) -> TrainingPrompt:
        """Make one prompt that shows its own image under its own labels, for validation."""
        material = self._materials[source]
        task = _shuffled(random, material.task, material.labels)
        truth = int(material.targets[image])
        return self._prompt(
            random, Scene(task, material.labels, truth, image, ImageView(source, image)), family, profile
        )

    def _profile(self, random: Random) -> Profile:
        return self._profiles[int(random.choice(len(self._profiles), p=self._profile_chances))]

    def _scene(self, random: Random) -> Scene:
        source = int(random.choice(len(self._materials), p=self._source_chances))
        filled = [members for members in self._of_label[source] if len(members)]
        image = int(random.choice(filled[int(random.integers(len(filled)))]))
        draw = random.random()
        if draw < self._settings.invented:
            names = _other_names(random, int(random.integers(2, 9)))
            task = Task(name="invented", modality=str(random.choice(MODALITIES)), options=names)
            truth = int(random.integers(len(names)))
            view = ImageView(source, image)
            return Scene(_shuffled(random, task, names), names, truth, image, view, own=False)
        material = self._materials[source]
        own = draw >= self._settings.invented + self._settings.renamed
        names = material.labels if own else _other_names(random, len(material.labels))
        task = _shuffled(random, material.task, names)
        view = self._view(random, source, image)
        return Scene(task, names, int(material.targets[image]), image, view, own)

    def _view(self, random: Random, source: int, image: int) -> ImageView:
        """An image that looks as this one would if the tower had never seen it.

        The tower knows its training images by heart; a decoder that learnt from them alone would trust
        its eyes more than it should. So what is seen errs as the tower does on validation images: now it
        is an image of another label, now something between an image of this and one of another. Of the
        latter a share is drawn such that, over all scenes, it is the chance that the image's label is the
        right one.
        """
        material = self._materials[source]
        truth = int(material.targets[image])
        chances = material.views[truth]
        errors = 1.0 - float(chances[truth])
        between = min(MOST_BETWEEN, 4 * errors * self._config.language.between)
        draw = random.random()
        if draw >= between + errors - between / 4:
            return ImageView(source, image)
        others = np.where(np.arange(len(chances)) == truth, 0.0, chances)
        members = self._of_label[source][int(random.choice(len(chances), p=others / others.sum()))]
        if not len(members):
            return ImageView(source, image)
        other = int(random.choice(members))
        if draw < between:
            # With the density 2x, a quarter of these shares lies below one half: looks wrong.
            return ImageView(source, image, other, float(random.random() ** 0.5))
        return ImageView(source, other)

    def _prompt(self, random: Random, scene: Scene, family: Family, profile: Profile) -> TrainingPrompt:
        said, found = _parts(random, family, scene.own)
        opinions, similar = self._evidence(random, scene, said, found)
        # Without evidence the answer is what is to be seen; with it, what the evidence is about.
        answer = scene.names[scene.truth] if said or found else self._label(scene)
        place = (scene.view, family, opinions, similar)
        if family != "presence":
            text = profile.closed_text(scene.task, opinions, similar)
            return TrainingPrompt(text, answer_text((answer,)), scene.task.options, *place)
        option = answer if random.random() < 0.5 else str(random.choice(scene.task.options))
        text = profile.presence_text(scene.task, option, opinions, similar)
        return TrainingPrompt(text, PRESENCE[0] if option == answer else PRESENCE[1], PRESENCE, *place)

    def _label(self, scene: Scene) -> str:
        if scene.view.share < 1:
            return scene.answer
        return scene.names[int(self._materials[scene.source].targets[scene.view.image])]

    def _consultation(self, random: Random, scene: Scene) -> TrainingPrompt:
        tasks = [material.task for material in self._materials]
        return draw_consultation(random, scene, tasks, lambda: self._evidence(random, scene, True, True))

    def _evidence(
        self, random: Random, scene: Scene, said: bool, found: bool
    ) -> tuple[tuple[Opinion, ...], tuple[SimilarCase, ...]]:
        case = draw_circumstances(random, scene.names, scene.truth, self._settings)
        real = self._materials[scene.source].real if scene.task.name != "invented" else None
        if real is not None and not case.misled and random.random() < self._settings.real:
            least, most = self._settings.neighbours
            opinions = real.opinions(scene.image, scene.names, random, self._settings.whole) if said else ()
            count = most if random.random() < self._settings.whole else int(random.integers(least, most + 1))
            similar = real.similar(scene.image, scene.names, count) if found else ()
            return opinions, similar
        return (
            draw_opinions(random, case, self._settings) if said else (),
            draw_neighbours(random, case, self._settings) if found else (),
        )


def training_texts(mixture: Mixture, count: int) -> list[str]:
    """All texts of the first prompts, for the tokenizer."""
    texts: list[str] = []
    for prompt in (prompt for number in range(count) for prompt in mixture.prompts(number)):
        texts += [prompt.text, prompt.answer, *(turn.text for turn in prompt.turns)]
        texts += [json.dumps(tool, ensure_ascii=False) for tool in prompt.tools]
    return texts


def _draw_families(random: Random, settings: Language, own: bool) -> list[Family]:
    """One family per prompt of a scene.

    Families with the same wording stay together, so that much of a scene is common to its prompts; and
    a plain prompt has nothing to vary, so that one is enough.
    """
    weights: dict[Family, float] = {
        name: weight for name, weight in settings.families.items() if own or name != BARE
    } or {"both": 1.0}
    drawn: list[Family] = []
    while len(drawn) < settings.branches:
        names, chances = _chances(weights)
        drawn.append(names[int(random.choice(len(names), p=chances))])
        if drawn[0] not in HINTED:
            return drawn * settings.branches
        weights = {name: weight for name, weight in weights.items() if name in HINTED}
        if "plain" in drawn and len(weights) > 1:
            weights.pop("plain", None)
    return drawn


def _parts(random: Random, family: Family, own: bool) -> tuple[bool, bool]:
    """Whether a prompt of this family holds opinions, and similar cases."""
    if family == "presence":
        choices = ((True, False), (False, True), (True, True), (False, False))
        return choices[int(random.integers(4 if own else 3))]
    return family in ("moed", "both"), family in ("rad", "both")


def _shuffled(random: Random, task: Task, names: tuple[str, ...]) -> Task:
    order = random.permutation(len(names))
    return task.model_copy(update={"options": tuple(names[index] for index in order)})


def _other_names(random: Random, count: int) -> tuple[str, ...]:
    pool = NEUTRAL if random.random() < 0.3 else DIAGNOSES
    return tuple(pool[index] for index in random.permutation(len(pool))[:count])


def _chances(weights: Mapping[_T, float]) -> tuple[list[_T], npt.NDArray[np.float64]]:
    kept = {name: weight for name, weight in weights.items() if weight > 0}
    values = np.array(list(kept.values()), dtype=np.float64)
    return list(kept), values / values.sum()
