"""The mixture of training prompts: scene number *n* is the same in every run with the same seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ....case import Case, ImageRef, Opinion, SimilarCase, Task, TaskKind
from ..prompts import PRESENCE, PROFILES, Profile, answer_text
from .config import Family, GeneralistTraining, Language
from .evidence import NO_HASH, Random, draw_circumstances, draw_neighbours, draw_opinions
from .names import DIAGNOSES, MODALITIES, NEUTRAL
from .real_evidence import RealEvidence, mislead

NO_CASE = Case(id="training", images=(ImageRef(sha256=NO_HASH, width=1, height=1),))
Ints = npt.NDArray[np.int64]

BARE: tuple[Family, ...] = ("plain", "question")
"""Families that only the image answers."""
HINTED: tuple[Family, ...] = ("plain", "moed", "rad", "both")
"""Families whose wording is the same up to the hints."""


@dataclass(frozen=True)
class Prompt:
    """A prompt with its answer."""

    text: str
    """The user's text."""
    answer: str
    options: tuple[str, ...]
    """The answers that are allowed; empty for open questions."""
    source: int
    image: int
    """Index of the image in its source."""
    family: Family
    opinions: tuple[Opinion, ...] = ()
    similar: tuple[SimilarCase, ...] = ()


@dataclass(frozen=True)
class Material:
    """What prompts about one source are made from.

    Attributes:
        task: its card.
        labels: the data set's labels, sorted.
        targets: label index of each image.
        views: how often an image of each label looks like each label to the tower, (labels, labels).
        real: real evidence, if there is any.
    """

    task: Task
    labels: tuple[str, ...]
    targets: Ints
    views: npt.NDArray[np.float64]
    real: RealEvidence | None = None


@dataclass(frozen=True)
class Scene:
    """What prompts about one image have in common.

    Attributes:
        task: options in the order of the prompts.
        names: what each label is called here.
        truth: index into ``names``.
        source: of the image.
        image: that the evidence is about.
        shown: that is shown.
        own: whether the labels have their own names, so that the image can tell them.
    """

    task: Task
    names: tuple[str, ...]
    truth: int
    source: int
    image: int
    shown: int
    own: bool = True


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
        sizes = np.array([len(material.targets) for material in materials]) ** 0.5
        self._source_chances = sizes / sizes.sum()
        self._of_label = [
            [np.flatnonzero(m.targets == label) for label in range(len(m.labels))] for m in materials
        ]

    def prompts(self, number: int) -> tuple[Prompt, ...]:
        """Return the prompts of that number: several about one image with the same options.

        They differ in family, profile and evidence, so their beginnings are alike and are computed once.
        """
        random = np.random.default_rng([self._config.seed, 2, number])
        scene = self._scene(random)
        families = _draw_families(random, self._config.language, scene.own)
        return tuple(self._prompt(random, scene, family, self._profile(random)) for family in families)

    def about(self, random: Random, family: Family, profile: Profile, source: int, image: int) -> Prompt:
        """Make one prompt that shows its own image under its own labels, for validation."""
        material = self._materials[source]
        task = _shuffled(random, material.task, material.labels)
        truth = int(material.targets[image])
        return self._prompt(
            random, Scene(task, material.labels, truth, source, image, image), family, profile
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
            return Scene(_shuffled(random, task, names), names, truth, source, image, image, own=False)
        material = self._materials[source]
        own = draw >= self._settings.invented + self._settings.renamed
        names = material.labels if own else _other_names(random, len(material.labels))
        task = _shuffled(random, material.task, names)
        return Scene(
            task, names, int(material.targets[image]), source, image, self._view(random, source, image), own
        )

    def _view(self, random: Random, source: int, image: int) -> int:
        """An image that looks as this one would if the tower had never seen it.

        The tower knows its training images by heart; a decoder that learnt from them alone would trust
        its eyes more than it should. So the label that is seen is drawn as the tower confuses labels on
        validation images.
        """
        material = self._materials[source]
        truth = int(material.targets[image])
        seen = int(random.choice(len(material.labels), p=material.views[truth]))
        members = self._of_label[source][seen]
        return image if seen == truth or not len(members) else int(random.choice(members))

    def _prompt(self, random: Random, scene: Scene, family: Family, profile: Profile) -> Prompt:
        if family == "question":
            return self._question(random, scene, profile)
        said, found = _parts(random, family, scene.own)
        opinions, similar = self._evidence(random, scene, said, found)
        # Without evidence the answer is what is to be seen; with it, what the evidence is about.
        answer = scene.names[scene.truth] if said or found else self._shown(scene)
        place = (scene.source, scene.shown, family, opinions, similar)
        if family != "presence":
            text = profile.closed_text(scene.task, opinions, similar)
            return Prompt(text, answer_text((answer,)), scene.task.options, *place)
        option = answer if random.random() < 0.5 else str(random.choice(scene.task.options))
        text = profile.presence_text(scene.task, option, opinions, similar)
        return Prompt(text, PRESENCE[0] if option == answer else PRESENCE[1], PRESENCE, *place)

    def _shown(self, scene: Scene) -> str:
        return scene.names[int(self._materials[scene.source].targets[scene.shown])]

    def _evidence(
        self, random: Random, scene: Scene, said: bool, found: bool
    ) -> tuple[tuple[Opinion, ...], tuple[SimilarCase, ...]]:
        real = self._materials[scene.source].real if scene.task.name != "invented" else None
        if real is not None and random.random() < self._settings.real:
            least, most = self._settings.neighbours
            opinions = real.opinions(scene.image, scene.names, random, self._settings.whole) if said else ()
            count = most if random.random() < self._settings.whole else int(random.integers(least, most + 1))
            similar = real.similar(scene.image, scene.names, count) if found else ()
            if random.random() < self._settings.all_wrong:
                others = [name for name in scene.names if name != scene.names[scene.truth]]
                return mislead(opinions, similar, str(random.choice(others)))
            return opinions, similar
        case = draw_circumstances(random, scene.names, scene.truth, self._settings)
        return (
            draw_opinions(random, case, self._settings) if said else (),
            draw_neighbours(random, case, self._settings) if found else (),
        )

    def _question(self, random: Random, scene: Scene, profile: Profile) -> Prompt:
        label, modality = self._shown(scene), scene.task.modality
        asked = label if random.random() < 0.5 else str(random.choice(scene.names))
        question, answer = (
            ("Which imaging modality is this?", modality),
            ("What is the diagnosis?", label),
            (f"Is this {asked}?", PRESENCE[0] if asked == label else PRESENCE[1]),
        )[int(random.integers(3))]
        task = Task(name="question", kind=TaskKind.QUESTION, modality=modality)
        text = profile.open_text(task, NO_CASE.model_copy(update={"question": question}))
        return Prompt(text, answer_text((answer,)), (), scene.source, scene.shown, "question")


def training_texts(mixture: Mixture, count: int) -> list[str]:
    """Texts and answers of the first prompts, for the tokenizer."""
    prompts = [prompt for number in range(count) for prompt in mixture.prompts(number)]
    return [text for prompt in prompts for text in (prompt.text, prompt.answer)]


def _draw_families(random: Random, settings: Language, own: bool) -> list[Family]:
    """One family per prompt of a scene.

    Families with the same wording stay together, so that much of a scene is common to its prompts; and
    a plain prompt has nothing to vary, so that one is enough.
    """
    weights = {name: weight for name, weight in settings.families.items() if own or name not in BARE}
    weights = weights or {"both": 1.0}
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


def _chances(weights: Mapping[Any, float]) -> tuple[list[Any], npt.NDArray[np.float64]]:
    kept = {name: weight for name, weight in weights.items() if weight > 0}
    values = np.array(list(kept.values()), dtype=np.float64)
    return list(kept), values / values.sum()
