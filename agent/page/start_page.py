"""What an empty conversation shows: sample images to begin with, and what can be diagnosed here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import gradio as gr
from markupsafe import Markup

from ...errors import GscoError
from ...images import read_image
from ...models.mini.samples import samples
from ..reports.pictures import picture

if TYPE_CHECKING:
    from ...case import Task
    from ...models.mini.samples import Sample

SIDE = 160
"""Longest side of a sample's picture."""
PER_TASK = 2
ASKED = "What is the diagnosis?"
"""What choosing a sample asks."""
_CHOOSE = """
element.addEventListener('click', (event) => {
    const chosen = event.target.closest('button[data-sample]');
    if (chosen) trigger('select', {sample: chosen.dataset.sample});
});
"""


def start_page(tasks: Sequence[Task]) -> gr.HTML:
    """Lay it out; its event ``select`` names the sample that was chosen."""
    return gr.HTML(start_fragment(tasks), elem_id="start", js_on_load=_CHOOSE)


def start_fragment(tasks: Sequence[Task]) -> Markup:
    """What can be diagnosed, as HTML."""
    chosen = [(task, sample) for task in tasks for sample in samples_of(task)]
    buttons = Markup("").join(_button(task, sample) for task, sample in chosen)
    known = Markup("").join(
        Markup("<li><b>{}</b>: {}</li>").format(
            task.title or task.name, ", ".join(task.options) or "free text"
        )
        for task in tasks
    )
    tried = Markup('<h2>Try a sample image</h2><div class="samples">{}</div>').format(buttons)
    return Markup(
        '<section class="gsco start" aria-label="Start"><p>Drop in an image, as a picture or a DICOM file, '
        "and say what you want to know.</p>{}<h2>What can be diagnosed here</h2><ul>{}</ul></section>"
    ).format(tried if chosen else "", known)


def samples_of(task: Task) -> list[Sample]:
    """A few bundled images of a task, each with another diagnosis; none of a task that is not bundled."""
    first: dict[str, Sample] = {}
    for sample in samples(task.name):
        if sample.label in task.options:
            first.setdefault(sample.label, sample)
    return list(first.values())[-PER_TASK:]


def sample_named(file: object) -> Sample:
    """The sample that a client names.

    Raises:
        GscoError: there is none of that name.
    """
    for sample in samples():
        if sample.file == file:
            return sample
    raise GscoError("there is no such sample image; load the page again")


def _button(task: Task, sample: Sample) -> Markup:
    image = picture(read_image(sample.path), "", SIDE)
    return Markup(
        '<button type="button" data-sample="{}" aria-label="Sample image: {}"><img src="{}" alt="">'
        "<span>{}</span></button>"
    ).format(sample.file, task.modality, image.address, task.modality)
