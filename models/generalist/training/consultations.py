"""Conversations in which the generalist calls functions: whom to ask, when to retrieve, when to stop.

Asked for a diagnosis it calls ``diagnose`` where there is such a function. Else it asks the specialists, and
retrieves cases only where they disagree. Asked for something else it makes the one call that answers. What is
said to the user is not learnt: it is written from the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ....case import Missing, Opinion, SimilarCase, Task
from ..functions import classified, declared, functions
from ..tool_calls import called, specifications
from .evidence import Random
from .example import ImageView, PromptTurn, Scene, TrainingPrompt
from .renamed_labels import DIAGNOSES, MODALITIES

REQUESTS: Mapping[str, tuple[str, ...]] = {
    "diagnose": (
        "What is the diagnosis?",
        "Diagnose this image.",
        "Please assess this case.",
        "What does it show?",
        "Is there any disease?",
        "What is this?",
        "What do you make of this?",
    ),
    "specialists": ("What do the specialists say?", "Ask the specialists.", "Classify this image."),
    "similar": ("Show similar cases.", "Find similar cases.", "Are there known cases like this one?"),
    "tasks": ("What can you assess?", "Which tasks do you know?"),
}
CHANCES = {"diagnose": 0.6, "specialists": 0.17, "similar": 0.17, "tasks": 0.06}
FUNCTIONS = ("classify", "retrieve_cases", "diagnose", "list_tasks")
SPECIALISTS = (
    "probe",
    "lite0",
    "regnet",
    "mobilenet",
    "resnet18",
    "densenet121",
    "vit",
    "vgg16",
    "alexnet",
    "dino",
    "clip",
    "efficientnet",
    "convnext",
    "swin",
    "panel-a",
    "panel-b",
)
Parts = tuple[tuple[Opinion, ...], tuple[SimilarCase, ...]]


@dataclass(frozen=True)
class AvailableTools:
    """What stands ready in one conversation.

    Attributes:
        tasks: that can be named.
        names: of the functions there are.
        task: the right one.
        image: id of the image; there is only one, so that calls leave it out.
    """

    tasks: tuple[Task, ...]
    names: tuple[str, ...]
    task: str
    image: str

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """Specifications of the functions."""
        return _specified(self.tasks, self.names)

    def call(self, name: str) -> str:
        """The call of a function about the image."""
        return called(name, {"task": self.task})


def draw_consultation(
    random: Random, scene: Scene, tasks: Sequence[Task], evidence: Callable[[], Parts]
) -> TrainingPrompt:
    """Draw a conversation about a scene's image.

    Args:
        random: source of the random numbers.
        scene: image, task and names.
        tasks: of all sources.
        evidence: draws opinions and similar cases for the scene.
    """
    desk = draw_available_tools(random, scene, tasks)
    needs = {"tasks": "list_tasks", "similar": "retrieve_cases"}
    kinds = [kind for kind in REQUESTS if needs.get(kind, "classify") in desk.names]
    weights = [CHANCES[kind] for kind in kinds]
    kind = kinds[int(random.choice(len(kinds), p=[weight / sum(weights) for weight in weights]))]
    opinions, _ = evidence()
    turns, answer = _course(kind, desk, _outcomes(random, opinions))
    return replace(_opened(desk, kind, random, scene.view), answer=answer, turns=tuple(turns))


def draw_available_tools(random: Random, scene: Scene, tasks: Sequence[Task]) -> AvailableTools:
    """Draw which tasks and functions stand ready; the scene's own task is among them."""
    own = scene.task
    others = [task for task in tasks if task.name != own.name]
    if random.random() < 0.4:
        chosen = [own if task.name == own.name else task for task in tasks]
        chosen = chosen if own in chosen else [own]
    else:
        kept = random.permutation(len(others))[: int(random.integers(len(others) + 1))]
        strange = [_strange(random, number) for number in range(int(random.integers(2)))]
        mixed = [own, *(others[index] for index in kept), *strange]
        chosen = [mixed[index] for index in random.permutation(len(mixed))]
    return AvailableTools(tuple(chosen), _functions(random), own.name, draw_id(random))


def draw_id(random: Random) -> str:
    """An image id, as ``ImageRef.id`` makes it."""
    return f"img-{int(random.integers(16**12)):012x}"


def _opened(desk: AvailableTools, kind: str, random: Random, view: ImageView) -> TrainingPrompt:
    text = f"Image {desk.image}. {random.choice(REQUESTS[kind])}"
    return TrainingPrompt(text, "", (), view, "consultation", tools=desk.tools)


def _functions(random: Random) -> tuple[str, ...]:
    draw = random.random()
    if draw < 0.4:
        return FUNCTIONS if draw < 0.2 else tuple(name for name in FUNCTIONS if name != "diagnose")
    kept = [name for name in FUNCTIONS if name == "classify" or random.random() < 0.4]
    return tuple(kept[index] for index in random.permutation(len(kept)))


def _course(
    kind: str, desk: AvailableTools, outcomes: tuple[Opinion | Missing, ...]
) -> tuple[list[PromptTurn], str]:
    """The turns up to the last call, and that call."""
    if kind == "tasks":
        return [], called("list_tasks", {})
    if kind == "similar":
        return [], desk.call("retrieve_cases")
    if kind == "diagnose" and "diagnose" in desk.names:
        return [], desk.call("diagnose")
    said = {one.labels for one in outcomes if isinstance(one, Opinion)}
    if kind == "diagnose" and len(said) > 1 and "retrieve_cases" in desk.names:
        asked = PromptTurn("assistant", desk.call("classify"))
        return [asked, PromptTurn("tool", classified(outcomes))], desk.call("retrieve_cases")
    return [], desk.call("classify")


def _outcomes(random: Random, opinions: Sequence[Opinion]) -> tuple[Opinion | Missing, ...]:
    """The opinions under names of their own; now and then a specialist has failed."""
    names = [SPECIALISTS[index] for index in random.permutation(len(SPECIALISTS))[: len(opinions)]]
    found: list[Opinion | Missing] = [
        opinion.model_copy(update={"specialist": name}) if random.random() < 0.7 else opinion
        for name, opinion in zip(names, opinions, strict=True)
    ]
    if len(found) > 1 and random.random() < 0.1:
        lost = int(random.integers(len(found)))
        found[lost] = Missing(source=f"specialist:{names[lost]}", reason="it failed on this image")
    return tuple(found)


def _strange(random: Random, number: int) -> Task:
    names = [DIAGNOSES[index] for index in random.permutation(len(DIAGNOSES))[: int(random.integers(2, 5))]]
    modality = str(random.choice(MODALITIES[4:]))
    return Task(
        name=f"{modality.split()[0].lower().strip('-')}_{number}", modality=modality, options=tuple(names)
    )


def _specified(tasks: Sequence[Task], names: tuple[str, ...]) -> tuple[Mapping[str, Any], ...]:
    return _declared(tuple((task.name, task.modality, task.options) for task in tasks), names)


@lru_cache(maxsize=256)
def _declared(
    tasks: tuple[tuple[str, str, tuple[str, ...]], ...], names: tuple[str, ...]
) -> tuple[Mapping[str, Any], ...]:
    known = functions(
        [Task(name=name, modality=modality, options=options) for name, modality, options in tasks]
    )
    return tuple(specifications([declared(known[name]) for name in names]))
