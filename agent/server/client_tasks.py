"""What a chat client asks for itself: titles, tags, follow-up questions, search queries of a conversation.

Open WebUI and others send such requests to the model that the user talks to. They are answered from the
conversation's own words, without the agent: a title is no question about a case.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .content import images_of, text_of
from .markdown import FOOTER

if TYPE_CHECKING:
    from .schema import ChatRequest

TITLE_WORDS = 6
_TOOL_CHOICE = "Available Tools:"
"""Begins the system message with which Open WebUI lets a model choose among its tools."""
FOLLOW_UPS = (
    "How sure are you?",
    "What did the specialists say?",
    "Which similar cases were found?",
)
"""Questions that every diagnosis has an answer to."""
CLIENT_TASKS: Mapping[str, str] = {
    "title_generation": "title",
    "tags_generation": "tags",
    "follow_up_generation": "follow_ups",
    "query_generation": "queries",
    "image_prompt_generation": "prompt",
    "autocomplete_generation": "text",
}
"""What ``metadata.task`` may say, and the key of the JSON that is wanted then."""
_KEY = re.compile(r"""\{\s*["'](title|tags|follow_ups|queries|prompt|text)["']\s*:""")
_DECISION = re.compile(r"\*\*Decision \(([a-z0-9_-]+)\): ([^*\n]+)\*\*")
_HISTORY = re.compile(r"<chat_history>(.*?)(?:</chat_history>|\Z)", re.DOTALL)
_USER = re.compile(r"^(?:\W*)user\W*[:>]\s*(.+)$", re.IGNORECASE | re.MULTILINE)
_PLAIN_TITLE = re.compile(
    r"\b(?:generate|create|provide|write|give|suggest|summari[sz]e)\b.{0,120}\btitle\b.{0,120}"
    r"\b(?:conversation|chat|dialogue)\b",
    re.IGNORECASE | re.DOTALL,
)
"""How clients without a JSON form ask for a title, at the beginning of the message."""
_PLAIN_HEAD = 400


def task_answer(request: ChatRequest) -> str | None:
    """Answer what a client asks for itself; None for everything that a person asks."""
    last = request.messages[-1]
    if last.role != "user" or any(part for part in images_of(last, 0)):
        return None
    text = text_of(last)
    if text.lstrip().startswith("### Task:"):
        named = CLIENT_TASKS.get(str((request.metadata or {}).get("task")))
        key = named or next(iter(_KEY.findall(text)), None)
        return None if key is None else json.dumps({key: _ANSWERS[key](_history(text))}, ensure_ascii=False)
    if any(text_of(one).startswith(_TOOL_CHOICE) for one in request.messages if one.role == "system"):
        return json.dumps({"tool_calls": []})
    if _PLAIN_TITLE.search(text[:_PLAIN_HEAD]):
        return title_of("\n".join(map(text_of, request.messages)))
    return None


def title_of(history: str) -> str:
    """Name a conversation: by its decision, or else by what the user asked first."""
    if found := _DECISION.search(history):
        return f"{_name(found[1])}: {found[2]}"
    said = _USER.search(history.partition(FOOTER)[0])
    words = said[1].split() if said else []
    return " ".join(words[:TITLE_WORDS]).rstrip(".,:;?!") or "Medical image"


def tags_of(history: str) -> list[str]:
    """Tag a conversation by task and decision."""
    found = [word for name, label in _DECISION.findall(history) for word in (_name(name), label)]
    return list(dict.fromkeys(["Medical imaging", *found]))


def follow_ups_of(history: str) -> list[str]:
    """Suggest questions that have not been asked."""
    if not _DECISION.search(history):
        return ["What can you diagnose?"]
    return [question for question in FOLLOW_UPS if question not in history]


def _name(task: str) -> str:
    words = task.replace("_", " ")
    return words[:1].upper() + words[1:]


def _history(text: str) -> str:
    found = _HISTORY.findall(text)
    return found[-1] if found else ""


_ANSWERS: Mapping[str, Callable[[str], object]] = {
    "title": title_of,
    "tags": tags_of,
    "follow_ups": follow_ups_of,
    "queries": lambda history: [],
    "prompt": lambda history: "",
    "text": lambda history: "",
}
