"""Short findings-and-impression reports, as far as a label can carry one: they claim nothing beyond it."""

from __future__ import annotations

from collections.abc import Sequence

from ....case import Opinion, SimilarCase, TaskKind
from ..prompts import Profile, article
from .evidence import Random
from .example import Scene, TrainingPrompt
from .questions import NO_CASE
from .renamed_labels import UNREMARKABLE


def draw_report(
    random: Random,
    scene: Scene,
    label: str,
    opinions: Sequence[Opinion],
    similar: Sequence[SimilarCase],
    profile: Profile,
) -> TrainingPrompt:
    """Draw a report of a scene's image.

    Args:
        random: source of the random numbers.
        scene: image and task.
        label: to be reported.
        opinions: in the prompt, perhaps none.
        similar: in the prompt, perhaps none.
        profile: words the request.
    """
    task = scene.task.model_copy(update={"kind": TaskKind.REPORT, "options": (), "negative": None})
    text = profile.open_text(task, NO_CASE, opinions, similar)
    answer = report(scene.task.modality, label)
    return TrainingPrompt(text, answer, (), scene.view, "report", tuple(opinions), tuple(similar))


def report(modality: str, label: str) -> str:
    """Findings and impression of an image with this label."""
    signs = "without signs of disease" if label in UNREMARKABLE else f"with signs of {label}"
    return f"Findings: {article(modality).capitalize()} {modality} {signs}. Impression: {label}."
