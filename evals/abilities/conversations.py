"""Whole consultations: an image and a question without a task, beside the fixed protocol with the task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import GscoError
from .ability_records import LOG, AbilityImage, AbilityRecord, is_answered

if TYPE_CHECKING:
    from ...agent.api import GSCo
    from ...agent.records import Utterance
    from ...models.generalist.protocol import Generalist

QUESTION = "What is this?"
AT_ONCE, CALL = "consultation: call at once", "consultation: call"
DECISION, PROTOCOL = "consultation: decision", "fixed protocol: decision"
EXAMINING = ("classify", "retrieve_cases", "diagnose")


def consult(
    gsco: GSCo, generalist: Generalist, images: Sequence[AbilityImage], out: Path, *, quiet: bool = False
) -> None:
    """Ask about each image in a conversation of its own, and have it diagnosed for its task.

    Noted of an image is whether the first function that the generalist itself called examines it for the
    right task, at once or after it was asked once more (see ``graphs.nodes.examining``); whether the turn's
    decision is the truth; and whether the decision of the fixed protocol is, which was told the task.

    Args:
        gsco: the parts, without a review policy.
        generalist: that of ``gsco``.
        images: with their truth.
        out: folder of the run.
        quiet: show no progress.
    """
    from ..._support.jsonl import JsonlLog
    from ..._support.progress import Progress

    out.mkdir(parents=True, exist_ok=True)
    log = JsonlLog(out / LOG, AbilityRecord)
    done = {(one.task, one.case) for one in log if one.ability == DECISION and is_answered(one, generalist)}
    with Progress("consultations", len(images), quiet=quiet) as progress:
        for image in images:
            if (image.task.name, image.id) not in done:
                log.append(_consulted(gsco, generalist, image))
            progress.advance()


def _consulted(gsco: GSCo, generalist: Generalist, image: AbilityImage) -> Iterator[AbilityRecord]:
    def record(
        ability: str, *, right: bool = False, said: str = "", error: str | None = None
    ) -> AbilityRecord:
        return AbilityRecord(
            ability=ability,
            task=image.task.name,
            case=image.id,
            generalist=generalist.version,
            right=int(right),
            stated=1,
            expected=1,
            said=said,
            error=error,
        )

    consultation = gsco.consult(group=image.case.group, keep=False)
    try:
        whole = gsco.diagnose(image.case, task=image.task)
        turn, history = consultation.send(QUESTION, image.case.images), consultation.history()
    except GscoError as error:
        reason = " ".join(str(error).split())
        yield from (record(ability, error=reason) for ability in (AT_ONCE, CALL, PROTOCOL, DECISION))
        return
    name, task, at_once = _first_call(history)
    called = name in EXAMINING and task == image.task.name
    yield record(AT_ONCE, right=called and at_once, said=f"{name}({task})" if at_once else "")
    yield record(CALL, right=called, said=f"{name}({task})")
    yield record(PROTOCOL, right=whole.labels == image.truth, said=whole.label or "")
    decision = turn.diagnosis
    right = decision is not None and decision.task == image.task.name and decision.labels == image.truth
    said = f"{decision.task}: {decision.label}" if decision else turn.text
    yield record(DECISION, right=right, said=said)


def _first_call(history: Sequence[Utterance]) -> tuple[str, str, bool]:
    """The first function that was called, for which task, and whether nothing was said before."""
    answers = [said for said in history if said.role == "assistant"]
    for place, said in enumerate(answers):
        for call in said.calls:
            return call.name, str(call.arguments.get("task") or ""), place == 0
    return "", "", False
