"""Abilities as arms of a run: which function the generalist calls about an image, alone or in a consultation.

They stand beside the arms that decide the case. Each says whether the ability was shown, and the generalist's
own words or calls.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from langchain_core.messages import AIMessage

from ...case import Case, Task
from ...models.generalist.functions import Function, declared, functions
from ...models.generalist.messages import message

if TYPE_CHECKING:
    from ...agent.api import GSCo
    from ...agent.records import Turn, Utterance

REQUEST = "Image {image}. What is the diagnosis?"
TOOLS: Mapping[str, tuple[str, ...]] = {
    "tool choice": ("classify", "retrieve_cases", "list_tasks"),
    "tool choice, diagnose at hand": ("classify", "retrieve_cases", "diagnose", "list_tasks"),
}
"""The functions that are offered, by the name of the ability; the first one that fits must be called."""
QUESTION = "What is this?"
AT_ONCE, CALL, DECISION = "consultation: call at once", "consultation: call", "consultation: decision"
ABILITIES = frozenset({*TOOLS, AT_ONCE, CALL, DECISION})
"""Names of these arms."""
EXAMINING = ("classify", "retrieve_cases", "diagnose")


class AbilityAnswer(NamedTuple):
    """What came of one question."""

    hit: bool
    """Whether the ability was shown."""
    said: str


@dataclass
class AbilityQuestion:
    """One image that is asked about; the abilities of a consultation share one conversation.

    Attributes:
        gsco: the parts, without a review policy.
        task: that the image is for.
        case: the image.
        truth: its true labels.
    """

    gsco: GSCo
    task: Task
    case: Case
    truth: tuple[str, ...]
    _consultation: asyncio.Task[tuple[Turn, tuple[Utterance, ...]]] | None = field(default=None, init=False)

    async def consulted(self) -> tuple[Turn, tuple[Utterance, ...]]:
        """Ask about the image without naming a task: the turn, and all that was said.

        Raises:
            GscoError: there is no answer.
        """
        if self._consultation is None:
            self._consultation = asyncio.create_task(self._consult())
        return await self._consultation

    async def _consult(self) -> tuple[Turn, tuple[Utterance, ...]]:
        consultation = self.gsco.consult(group=self.case.group, keep=False)
        turn = await consultation.asend(QUESTION, self.case.images)
        return turn, await consultation.ahistory()


@dataclass(frozen=True)
class AbilityArm:
    """An arm that decides nothing."""

    name: str
    show: Callable[[AbilityQuestion], Awaitable[AbilityAnswer]]
    """Raises ``GscoError`` where there is no answer."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Which parts of a run's configuration its outcomes depend on."""
        if self.name in TOOLS:
            return ("generalist",)
        return ("panel", "retrieval", "generalist", "profile", "gate", "decision", "fit")


def ability_arms(gsco: GSCo, tasks: Sequence[Task]) -> tuple[AbilityArm, ...]:
    """The abilities.

    In a consultation it is noted whether the first function that the generalist itself called examines the
    image for the right task, at once or after it was asked once more (see ``graphs.middleware``), and whether
    the turn's decision is the truth.

    Args:
        gsco: the parts.
        tasks: of the images; with those that have specialists they can be named in a call.
    """
    cards = {card.name: card for card in gsco.tasks if gsco.specialists.members(card.name)}
    offered = functions(tuple((cards | {task.name: task for task in tasks}).values()))
    choices = (
        AbilityArm(name, partial(_chosen, [offered[one] for one in names])) for name, names in TOOLS.items()
    )
    return (
        *choices,
        AbilityArm(AT_ONCE, _called_at_once),
        AbilityArm(CALL, _called),
        AbilityArm(DECISION, _decided),
    )


async def _chosen(offered: Sequence[Function], asked: AbilityQuestion) -> AbilityAnswer:
    wanted = "diagnose" if any(one.name == "diagnose" for one in offered) else "classify"
    image = asked.case.images[0].id
    request = message("human", REQUEST.format(image=image), [image])
    said = await asyncio.to_thread(asked.gsco.generalist().call_tools, [request], [*map(declared, offered)])
    right = [
        call["name"] == wanted
        and call["args"].get("task") == asked.task.name
        and call["args"].get("image", image) == image
        for call in said.tool_calls[:1]
    ]
    return AbilityAnswer(any(right), _written(said))


async def _called_at_once(asked: AbilityQuestion) -> AbilityAnswer:
    _, history = await asked.consulted()
    name, task, at_once = _first_call(history)
    return AbilityAnswer(_examines(name, task, asked) and at_once, f"{name}({task})" if at_once else "")


async def _called(asked: AbilityQuestion) -> AbilityAnswer:
    _, history = await asked.consulted()
    name, task, _ = _first_call(history)
    return AbilityAnswer(_examines(name, task, asked), f"{name}({task})")


async def _decided(asked: AbilityQuestion) -> AbilityAnswer:
    turn, _ = await asked.consulted()
    found = turn.diagnosis
    if found is None:
        return AbilityAnswer(False, turn.text)
    right = found.task == asked.task.name and found.labels == asked.truth
    return AbilityAnswer(right, f"{found.task}: {found.label}")


def _examines(name: str, task: str, asked: AbilityQuestion) -> bool:
    return name in EXAMINING and task == asked.task.name


def _first_call(history: Sequence[Utterance]) -> tuple[str, str, bool]:
    """The first function that was called, for which task, and whether nothing was said before."""
    answers = [said for said in history if said.role == "assistant"]
    for place, said in enumerate(answers):
        for call in said.calls:
            return call.name, str(call.arguments.get("task") or ""), place == 0
    return "", "", False


def _written(said: AIMessage) -> str:
    calls = [json.dumps({"name": call["name"], "arguments": call["args"]}) for call in said.tool_calls]
    return " ".join(
        filter(None, [said.text, *calls, *(str(call["args"]) for call in said.invalid_tool_calls)])
    )
