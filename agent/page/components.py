"""The parts of the page and how they are laid out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr
from gradio.blocks import Block

from ..reports.view import specialist_title
from .bubbles import Bubble
from .conversation_list import conversation_list
from .fragments import EMPTY, alert, progress, status_line
from .session import ChatSession, PageUpdate
from .start_page import start_page
from .uploads import PRESETS

HINT = "Drop in an image and say what you want to know"
WAITING = "A person must decide first"
ACTIONS = (("Approve", "approve"), ("Edit the label", "edit"), ("Reject", "reject"))


Updates = dict[Block, object]
"""New values of components, as an event returns them."""


@dataclass(frozen=True)
class PageComponents:
    """Everything on the page that changes, in the order of the page."""

    standing: gr.HTML
    new: gr.Button
    threads: gr.HTML
    delete: gr.Button
    sure: gr.Group
    yes: gr.Button
    no: gr.Button
    start: gr.HTML
    chat: gr.Chatbot
    progress: gr.HTML
    alert: gr.HTML
    review: gr.Group
    action: gr.Radio
    labels: gr.Dropdown
    reason: gr.Textbox
    reviewer: gr.Textbox
    decide: gr.Button
    box: gr.MultimodalTextbox
    task: gr.Dropdown
    context: gr.Textbox
    window: gr.Accordion
    preset: gr.Dropdown
    center: gr.Number
    width: gr.Number
    preview: gr.HTML
    cases: gr.Radio
    panel: gr.HTML
    looks: gr.Accordion
    specialist: gr.Dropdown
    label: gr.Dropdown
    look: gr.HTML
    thread: gr.Textbox
    """Place of the conversation: its name, or ``OWNER/NAME`` for another user's. Not seen."""
    diagnosis: gr.State
    """What the panel shows, once it is decided."""
    room: ChatSession

    def all(self) -> list[Block]:
        """All of them, for the outputs of an event."""
        return [
            part for field in fields(self) if not isinstance(part := getattr(self, field.name), ChatSession)
        ]

    def updates(self, shown: PageUpdate) -> Updates:
        """What Gradio is told of what there is to show."""
        told: Updates = {
            self.progress: progress(shown.doing, shown.seconds),
            self.alert: alert(shown.alert),
        }
        if shown.bubbles is not None:
            told[self.chat] = messages(shown.bubbles)
        if shown.panel is not None:
            told |= {self.panel: shown.panel, self.looks: gr.Accordion(visible=False)}
        if shown.about is not None:
            told |= {self.task: shown.about.task, self.context: shown.about.context}
        return told | self._over(shown) if shown.over else told

    def _over(self, shown: PageUpdate) -> Updates:
        review = shown.review
        told: Updates = {
            self.box: idle(review is not None),
            self.review: gr.Group(visible=review is not None),
        }
        if review is not None:
            told[self.labels] = gr.Dropdown(
                choices=list(review.options),
                multiselect=review.several,
                value=list(review.diagnosis.labels) if review.several else review.diagnosis.label,
            )
        return told | self.evidence(shown) if shown.panel is not None or shown.cases else told

    def evidence(self, shown: PageUpdate) -> Updates:
        """The panel, the choice of a case, and what an activation map can be drawn of."""
        diagnosis = shown.diagnosis
        opinions = [] if diagnosis is None else diagnosis.evidence.opinions
        voices = [
            (specialist_title(number), one.specialist)
            for number, one in enumerate(opinions, start=1)
            if one.probabilities
        ]
        labels = list(opinions[0].probabilities) if diagnosis is not None and voices else []
        findings = self.room.findings(diagnosis, labels) if diagnosis is not None else []
        told: Updates = {
            self.diagnosis: diagnosis,
            self.look: "",
            self.looks: gr.Accordion(visible=bool(voices and findings), open=False),
            self.cases: gr.Radio(
                [(words, number) for number, words in enumerate(shown.cases)],
                value=shown.number,
                visible=len(shown.cases) > 1,
            ),
        }
        if shown.panel is not None:
            told[self.panel] = shown.panel
        if voices and findings and diagnosis is not None:
            decided = [label for label in findings if label in diagnosis.labels]
            told[self.specialist] = gr.Dropdown(voices, value=voices[0][1])
            told[self.label] = gr.Dropdown(findings, value=[*decided, *findings][0])
        return told


def idle(waits: bool = False) -> dict[str, object]:
    """The question's box, ready for the next one, or closed until a person has decided."""
    return gr.update(
        submit_btn=True, stop_btn=False, interactive=not waits, placeholder=WAITING if waits else HINT
    )


def busy() -> dict[str, object]:
    """The question's box while an answer comes."""
    return gr.update(value={"text": ""}, submit_btn=False, stop_btn=True)


def messages(bubbles: Sequence[Bubble]) -> list[dict[str, object]]:
    """Bubbles as Gradio's chat takes them."""
    return [
        {"role": one.role, "content": gr.HTML(one.fragment, padding=False) if one.fragment else one.words}
        for one in bubbles
    ]


def lay_out(room: ChatSession, *, named: bool = True) -> PageComponents:
    """Lay the page out; call it within a ``gr.Blocks``.

    Args:
        room: what it can do.
        named: whether a reviewer says a name; else it is the user's.
    """
    tasks = room.tasks()
    made: dict[str, Any] = {
        "room": room,
        "thread": gr.Textbox("", visible="hidden", elem_id="thread", label="Conversation"),
        "diagnosis": gr.State(None),
    }
    made["standing"] = gr.HTML(status_line(), elem_id="standing")
    _conversations(made)
    with gr.Row(elem_id="desk"):
        with gr.Column(scale=5, min_width=300, elem_id="talk"):
            made["start"] = start_page(tasks)
            made["chat"] = gr.Chatbot(
                [],
                label="Conversation",
                show_label=False,
                render_markdown=False,
                buttons=["copy"],
                feedback_options=None,
                elem_id="chat",
                height="100%",
            )
            made["progress"] = gr.HTML(progress("Loading the models"), elem_id="progress")
            made["alert"] = gr.HTML("", elem_id="alert")
            _review(made, named)
            made["box"] = gr.MultimodalTextbox(
                label="Your question",
                show_label=False,
                placeholder=HINT,
                file_count="multiple",
                max_plain_text_length=4000,
                elem_id="box",
                autofocus=True,
            )
            _about(made, [(task.title or task.name, task.name) for task in tasks])
            _window(made)
        with gr.Column(scale=4, min_width=300, elem_id="evidence"):
            made["cases"] = gr.Radio([], label="Evidence on", visible=False, elem_id="cases")
            made["panel"] = gr.HTML(EMPTY, elem_id="panel")
            _look(made)
    return PageComponents(**made)


def _conversations(made: dict[str, object]) -> None:
    with gr.Sidebar(label="Conversations", open=False, width=300, elem_id="sidebar"):
        gr.HTML("<h2>Conversations</h2>")
        made["new"] = gr.Button("New conversation", variant="primary", size="sm", elem_id="new")
        made["threads"] = conversation_list()
        made["delete"] = gr.Button("Delete this conversation", size="sm", elem_id="delete")
        with gr.Group(visible=False, elem_id="sure") as made["sure"]:
            gr.HTML("<p>Delete it with all that was found? Images stay in the image store.</p>", padding=True)
            with gr.Row():
                made["yes"] = gr.Button("Delete", variant="stop", size="sm", elem_id="yes", min_width=80)
                made["no"] = gr.Button("Keep", size="sm", min_width=80)


def _review(made: dict[str, object], named: bool) -> None:
    with gr.Group(visible=False, elem_id="review") as made["review"]:
        gr.HTML("<h2>Your decision</h2>", padding=True)
        made["action"] = gr.Radio(ACTIONS, value="approve", label="Decision", elem_id="action")
        made["labels"] = gr.Dropdown([], label="Correct label", visible=False, elem_id="labels")
        made["reason"] = gr.Textbox(
            "", label="Reason", visible=False, max_length=2000, lines=2, elem_id="reason"
        )
        made["reviewer"] = gr.Textbox(
            label="Reviewer",
            placeholder="Your name or pseudonym",
            max_length=150,
            elem_id="reviewer",
            visible=named,
        )
        made["decide"] = gr.Button("Decide", variant="primary", elem_id="decide")


def _about(made: dict[str, object], tasks: Sequence[tuple[str, str]]) -> None:
    with gr.Accordion("About the case", open=False, elem_id="about"):
        made["task"] = gr.Dropdown(
            [("chosen from the image", ""), *tasks], value="", label="Task", elem_id="task"
        )
        made["context"] = gr.Textbox(
            "",
            label="Clinical context",
            lines=2,
            max_length=4000,
            elem_id="context",
            placeholder="Without the patient's name; it goes to the generalist as data",
        )


def _window(made: dict[str, object]) -> None:
    with gr.Accordion("Window of DICOM images", open=False, elem_id="window") as made["window"]:
        with gr.Row():
            made["preset"] = gr.Dropdown(
                list(PRESETS), value=next(iter(PRESETS)), label="Preset", min_width=220
            )
            made["center"] = gr.Number(0, label="Centre", min_width=90, elem_id="center")
            made["width"] = gr.Number(0, label="Width (0: the file's own)", min_width=90, elem_id="width")
        made["preview"] = gr.HTML("", elem_id="preview")


def _look(made: dict[str, object]) -> None:
    with gr.Accordion("Where each specialist looked", open=False, visible=False, elem_id="looks") as made[
        "looks"
    ]:
        with gr.Row():
            made["specialist"] = gr.Dropdown([], label="Specialist", min_width=140, elem_id="specialist")
            made["label"] = gr.Dropdown([], label="Label", min_width=140, elem_id="label")
        made["look"] = gr.HTML("", elem_id="look")
